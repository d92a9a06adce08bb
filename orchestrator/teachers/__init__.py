"""Teachers: which parameters of a task generator are played next; one small file a method."""
