"""What guests and hypervisor say to each other, put into words."""
