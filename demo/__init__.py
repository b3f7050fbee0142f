"""The demonstration: a workbook of mappings, and the flights that left New York City in 2013."""
