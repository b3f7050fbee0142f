"""The databases and folders of customers: how they are opened, described and read, whatever their kind."""
