"""What people read: tables and drawings."""
