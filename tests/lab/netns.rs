//! The netns rig.
