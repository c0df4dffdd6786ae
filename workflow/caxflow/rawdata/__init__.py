"""Raw data as the event builder writes them."""
