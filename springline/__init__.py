"""Springline's domain: rules, ports and their adapters. It imports no Temporal."""
