"""What people look at: state, reasons, progress, metrics, notifications."""
