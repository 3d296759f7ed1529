"""What health looks at: one page for each kind of thing that can end, break or drift."""
