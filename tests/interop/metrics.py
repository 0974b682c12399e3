"""Reads files of metrics with Prometheus' own parser; prints the samples of each as one JSON object per line."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

for path in sys.argv[1:]:
    samples = {}
    with open(path, encoding="utf-8") as file:
        for family in text_string_to_metric_families(file.read()):
            assert family.type in ("counter", "gauge"), f"{family.name} is {family.type}"
            assert family.documentation, f"{family.name} has no help"
            for sample in family.samples:
                labels = "".join(f"{{{name}={value}}}" for name, value in sample.labels.items())
                assert sample.name + labels not in samples, f"{sample.name}{labels} is there twice"
                samples[sample.name + labels] = sample.value
    print(json.dumps(samples))
