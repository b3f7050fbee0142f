"""Where data lives: connections and their sealed credentials, and looks at what they hold."""
