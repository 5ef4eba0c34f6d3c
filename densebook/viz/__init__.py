"""Pictures: figures with captions and alt texts, shaded meshes, turntables, widgets."""
