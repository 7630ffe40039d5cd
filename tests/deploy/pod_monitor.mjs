// Validates PodMonitors against the schema of the Prometheus operator: a JSON list on standard input. Prints what is wrong with each.
import { readFileSync } from "node:fs";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";

for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new PodMonitor(document).validate();
  } catch (error) {
    console.log(`${document.metadata?.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
