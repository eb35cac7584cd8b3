"""What tests share, a module for each thing; ``tests/README.md`` lists them. No test lives here."""
