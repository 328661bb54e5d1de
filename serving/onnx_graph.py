"""Parts of an exported graph: the nodes behind its tasks, and a graph of some tasks alone. Needs the package onnx."""

from collections.abc import Sequence

import onnx


def nodes_behind(model: onnx.ModelProto, tasks: Sequence[str]) -> list[str]:
    """Return the names of the nodes that the outputs of these tasks (NAME, or NAME_unit) depend on."""
    needed = {output.name for output in _outputs_of(model, tasks)}
    names = []
    # A graph lists its nodes after those that they need.
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            names.append(node.name)
    return names


def only_tasks(model: onnx.ModelProto, tasks: Sequence[str]) -> onnx.ModelProto:
    """Remove from `model` all outputs but those of these tasks, and what they alone need. Return `model`."""
    kept = set(nodes_behind(model, tasks))
    outputs = _outputs_of(model, tasks)
    graph = model.graph
    nodes = [node for node in graph.node if node.name in kept]
    inputs = {name for node in nodes for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in inputs]
    for field, entries in ((graph.output, outputs), (graph.node, nodes), (graph.initializer, weights)):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        del field[:]
        field.extend(copies)
    return model


def _outputs_of(model: onnx.ModelProto, tasks: Sequence[str]) -> list[onnx.ValueInfoProto]:
    return [
        output
        for output in model.graph.output
        if any(output.name == task or output.name.startswith(f"{task}_") for task in tasks)
    ]
