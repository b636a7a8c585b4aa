"""Who people are: accounts, how they sign in, their sessions and API tokens."""
