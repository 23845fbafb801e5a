//! A graph compiled to steps over a workspace: everything that does not depend on a request.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::ArrayD;

use super::graph::{Graph, Node, ValueId};
use super::kernels::{Isa, Team};
use super::op::{Inputs, Kernel, Operand, Source};
use super::workspace::{Layout, Workspace};

/// Steps in running order, with every buffer's place settled but for the number of rows.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    layout: Layout,
    outputs: Vec<Source>,
    weight_bytes: usize,
}

/// One kernel with the places that it reads and writes.
#[derive(Debug)]
struct Step {
    /// The node's name, for whoever looks at a plan.
    #[allow(dead_code, reason = "shown by Debug")]
    name: String,
    kernel: Arc<dyn Kernel>,
    /// What the kernel reads; without the first input if it works in place.
    inputs: Vec<Source>,
    /// What to copy into the output first: the first input of a kernel that works in place,
    /// if it lies elsewhere.
    copy: Option<Source>,
    output: usize,
    output_elements: usize,
}

impl Plan {
    /// Prepares the kernels and gives each value a slot, reusing slots whose values are done.
    ///
    /// Takes the graph by value and releases each weight once its kernel has packed it, so that
    /// weights are in memory twice only one layer at a time.
    pub(super) fn compile(
        mut graph: Graph,
        isa: Isa,
        release: &mut dyn FnMut(Arc<ArrayD<f32>>),
    ) -> Self {
        let mut places = Places::new(&graph);
        let mut steps = Vec::with_capacity(graph.nodes.len());
        let mut kernels = Kernels::default();
        for (index, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
            let operands = graph.operands(&node);
            if node.operator.is_identity() {
                places.alias(node.output, node.inputs[0]);
                continue;
            }
            let kernel = kernels.prepare(&node, &operands, isa);
            let dynamic: Vec<ValueId> = node
                .inputs
                .iter()
                .zip(&operands)
                .filter(|(_, operand)| operand.constant.is_none())
                .map(|(value, _)| *value)
                .collect();
            drop(operands);
            for value in &node.inputs {
                if places.last_use(*value) == index
                    && let Some(constant) = graph.values[value.0].constant.take()
                {
                    release(constant);
                }
            }
            let elements = graph.values[node.output.0].elements();
            steps.push(places.step(index, &node, kernel, &dynamic, elements));
        }
        let outputs = graph
            .outputs
            .iter()
            .map(|(value, _)| places.source(*value))
            .collect();
        Self {
            steps,
            layout: Layout::new(&places.slots),
            outputs,
            weight_bytes: kernels.weight_bytes,
        }
    }

    /// Runs every step, those that pay it with the team's help; the outputs stay in the workspace.
    pub(super) fn run<'w>(
        &'w self,
        rows: usize,
        external: &'w [&'w [f32]],
        workspace: &'w mut Workspace,
        team: Option<&Team>,
    ) -> Outputs<'w> {
        let arena = workspace.arena(&self.layout, rows);
        for step in &self.steps {
            let start = self.layout.start(step.output, rows);
            let len = step.output_elements * rows;
            let (before, rest) = arena.split_at_mut(start);
            let (output, after) = rest.split_at_mut(len);
            let inputs = |sources| Inputs {
                rows,
                sources,
                external,
                layout: &self.layout,
                before,
                after,
                after_start: start + len,
            };
            if let Some(source) = &step.copy {
                output.copy_from_slice(inputs(std::slice::from_ref(source)).get(0));
            }
            let inputs = inputs(&step.inputs);
            match team {
                None => step.kernel.run(rows, inputs, output),
                Some(team) => step.kernel.run_shared(rows, inputs, output, team),
            }
        }
        Outputs {
            plan: self,
            rows,
            external,
            arena,
        }
    }

    pub(super) fn pays_to_share(&self, rows: usize) -> bool {
        let mut kernels = self.steps.iter().map(|step| &step.kernel);
        kernels.any(|kernel| kernel.pays_to_share(rows))
    }

    pub(super) fn flops_per_row(&self) -> u64 {
        self.steps
            .iter()
            .map(|step| step.kernel.flops_per_row())
            .sum()
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
}

/// What a run computed, still in its workspace.
#[derive(Debug)]
pub struct Outputs<'w> {
    plan: &'w Plan,
    rows: usize,
    external: &'w [&'w [f32]],
    arena: &'w [f32],
}

impl<'w> Outputs<'w> {
    /// The values of the engine's output `index`: `rows` rows, row-major.
    ///
    /// # Panics
    /// If the engine has no output `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &'w [f32] {
        match self.plan.outputs[index] {
            Source::Input(input) => self.external[input],
            Source::Slot { slot, elements } => {
                let start = self.plan.layout.start(slot, self.rows);
                &self.arena[start..start + elements * self.rows]
            }
        }
    }
}

/// The kernels of a plan while it is made: nodes that apply the same weights share one, as a layer
/// that is applied several times wants it.
#[derive(Default)]
struct Kernels {
    made: HashMap<KernelKey, Arc<dyn Kernel>>,
    weight_bytes: usize,
}

/// What makes two nodes' kernels the same: the operator with its attributes, each operand's shape,
/// and which constant it is.
type KernelKey = (String, Vec<(Vec<usize>, Option<ValueId>)>);

impl Kernels {
    fn prepare(&mut self, node: &Node, operands: &[Operand], isa: Isa) -> Arc<dyn Kernel> {
        let parts = node.inputs.iter().zip(operands).map(|(value, operand)| {
            let constant = operand.constant.is_some().then_some(*value);
            (operand.shape.clone(), constant)
        });
        let key = (format!("{:?}", node.operator), parts.collect());
        let kernel = self.made.entry(key).or_insert_with(|| {
            let kernel = node.operator.prepare(operands, isa);
            self.weight_bytes += kernel.weight_bytes();
            kernel.into()
        });
        Arc::clone(kernel)
    }
}

/// Where values lie, while a plan is made.
struct Places {
    sources: HashMap<ValueId, Source>,
    /// The last node that uses a value; `usize::MAX` for outputs.
    last_uses: HashMap<ValueId, usize>,
    /// The values that lie in a slot, by slot: an aliased value holds the slot too.
    holders: Vec<Vec<ValueId>>,
    /// The most elements of a row that a slot ever holds, by slot.
    slots: Vec<usize>,
}

impl Places {
    fn new(graph: &Graph) -> Self {
        let mut last_uses = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            last_uses.extend(node.inputs.iter().map(|input| (*input, index)));
        }
        last_uses.extend(
            graph
                .outputs
                .iter()
                .map(|(output, _)| (*output, usize::MAX)),
        );
        let inputs = graph.inputs.iter().enumerate();
        Self {
            sources: inputs
                .map(|(index, (value, _))| (*value, Source::Input(index)))
                .collect(),
            last_uses,
            holders: Vec::new(),
            slots: Vec::new(),
        }
    }

    fn source(&self, value: ValueId) -> Source {
        self.sources[&value]
    }

    fn last_use(&self, value: ValueId) -> usize {
        self.last_uses.get(&value).copied().unwrap_or(0)
    }

    /// Lets `value` lie where `original` lies.
    fn alias(&mut self, value: ValueId, original: ValueId) {
        let source = self.source(original);
        self.sources.insert(value, source);
        if let Source::Slot { slot, .. } = source {
            self.holders[slot].push(value);
        }
    }

    /// The step of a node, with a slot for its output.
    fn step(
        &mut self,
        index: usize,
        node: &Node,
        kernel: Arc<dyn Kernel>,
        dynamic: &[ValueId],
        elements: usize,
    ) -> Step {
        let mut inputs: Vec<Source> = dynamic.iter().map(|value| self.source(*value)).collect();
        let mut copy = None;
        let mut output = None;
        if kernel.in_place() {
            let first = inputs.remove(0);
            match first {
                Source::Slot {
                    slot,
                    elements: held,
                } if held == elements && !inputs.contains(&first) && self.is_done(slot, index) => {
                    output = Some(slot);
                }
                _ => copy = Some(first),
            }
        }
        let output = output.unwrap_or_else(|| self.free_slot(index, elements));
        self.holders[output] = vec![node.output];
        self.sources.insert(
            node.output,
            Source::Slot {
                slot: output,
                elements,
            },
        );
        Step {
            name: node.name.clone(),
            kernel,
            inputs,
            copy,
            output,
            output_elements: elements,
        }
    }

    /// Whether no node after `index` reads what lies in the slot.
    fn is_done(&self, slot: usize, index: usize) -> bool {
        self.holders[slot]
            .iter()
            .all(|holder| self.last_use(*holder) <= index)
    }

    /// A slot that node `index` may write: its values were last read before that node.
    ///
    /// Takes the smallest that is large enough, else lets the largest grow, else adds one.
    fn free_slot(&mut self, index: usize, elements: usize) -> usize {
        let free = (0..self.slots.len()).filter(|slot| {
            let holders = self.holders[*slot].iter();
            holders.copied().all(|holder| self.last_use(holder) < index)
        });
        let (fitting, small): (Vec<usize>, Vec<usize>) =
            free.partition(|slot| self.slots[*slot] >= elements);
        let by_size = |slot: &usize| self.slots[*slot];
        let best = fitting
            .into_iter()
            .min_by_key(by_size)
            .or_else(|| small.into_iter().max_by_key(by_size));
        match best {
            Some(slot) => {
                self.slots[slot] = self.slots[slot].max(elements);
                slot
            }
            None => {
                self.slots.push(elements);
                self.holders.push(Vec::new());
                self.slots.len() - 1
            }
        }
    }
}
