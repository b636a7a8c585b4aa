"""Moving house: a whole studio, from its SQLite file and folder to another database and folder.

The studio that is left is opened read only and never changed. What arrives is never overwritten,
so a move that was cut off at any point is completed by asking for it again.
"""
