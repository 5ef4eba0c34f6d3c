"""Dense Object Nets: correspondences, training, mined keypoints, grasping, and how to measure them."""
