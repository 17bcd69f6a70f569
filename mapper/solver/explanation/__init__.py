"""Why a plan is as it is: what binds, what more of anything would bring, why others are slower."""
