"""The server over a store that several servers share. Imported only with a store of that kind."""
