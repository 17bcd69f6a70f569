"""Plans that compute without mapper: stages for other runtimes, and what runs them."""
