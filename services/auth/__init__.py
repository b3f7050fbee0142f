"""Who a caller is: organizations, users, sessions, signing keys, and which tokens are trusted no more."""
