"""What the work directory keeps beside receipts."""
