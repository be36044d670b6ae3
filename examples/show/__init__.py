"""What both demos are made of: endpoints, clients, the story, and how it is shown."""
