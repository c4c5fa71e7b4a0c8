"""Self-contained HTML pages. They load nothing, so they can be mailed, archived and opened without a network."""
