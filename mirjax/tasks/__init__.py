"""What is learnt: a loss over a batch and an evaluation over a split."""
