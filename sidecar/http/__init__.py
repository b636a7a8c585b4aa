"""What every room's routes share: parsing, replies, the status table, who is asking."""
