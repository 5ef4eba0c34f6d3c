"""What every layer stands on: settings, seeds, devices, records, files, optional packages, errors."""
