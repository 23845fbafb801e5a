//! A graph compiled to steps over a workspace: everything that does not depend on a request.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use super::constant::Constant;
use super::counts::Counts;
use super::graph::{Graph, Node, ValueId};
use super::kernels::{Isa, Team};
use super::op::{Kernel, Operand, Operator};
use super::run::{Batch, Place, Source};
use super::step::Step;
use super::workspace::{Layout, Workspace};
use crate::tensor::{Shape, View};

/// Steps in running order, with every buffer's place settled but for the numbers of rows and tokens.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    layout: Layout,
    outputs: Vec<Source>,
    weight_bytes: usize,
}

impl Plan {
    /// Prepares the kernels and gives each value a slot, reusing slots whose values are done.
    ///
    /// Takes the graph by value and releases each weight once its kernel has packed it, so that
    /// weights are in memory twice only one layer at a time.
    pub(super) fn compile(mut graph: Graph, isa: Isa, release: &mut dyn FnMut(Constant)) -> Self {
        let mut places = Places::new(&graph);
        let mut steps = Vec::with_capacity(graph.nodes.len());
        let mut kernels = Kernels::default();
        for (index, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
            let operands = graph.operands(&node);
            if let Some(output) = node.only_output()
                && node.operator.is_identity()
            {
                places.alias(output, node.inputs[0]);
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
            let outputs: Vec<(ValueId, &Shape)> = node
                .outputs
                .iter()
                .map(|output| (*output, &graph.values[output.0].shape))
                .collect();
            steps.push(places.step(index, kernel, &dynamic, &outputs));
        }
        let outputs = graph
            .outputs
            .iter()
            .map(|(value, _)| places.source(*value))
            .collect();
        let scratch = steps.iter().filter_map(|step: &Step| step.scratch.as_ref());
        Self {
            layout: Layout::new(&places.slots, scratch),
            steps,
            outputs,
            weight_bytes: kernels.weight_bytes,
        }
    }

    /// Runs every step, those that pay it with the team's help; the outputs stay in the workspace.
    pub(super) fn run<'w>(
        &'w self,
        batch: Batch<'w>,
        workspace: &'w mut Workspace,
        team: Option<&Team>,
    ) -> Outputs<'w> {
        let counts = batch.counts();
        let arena = workspace.arena(&self.layout, counts);
        for step in &self.steps {
            step.run(counts, batch.inputs, &self.layout, arena, team);
        }
        Outputs {
            plan: self,
            counts,
            external: batch.inputs,
            arena,
        }
    }

    pub(super) fn scratch_bytes(&self, rows: usize, tokens: usize) -> usize {
        let len = self.layout.most_len(rows, tokens);
        len.saturating_mul(size_of::<f32>())
    }

    pub(super) fn pays_to_share(&self, rows: usize, tokens: usize) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| step.pays_to_share(rows, tokens))
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
}

/// What a run computed, still in its workspace.
#[derive(Debug)]
pub struct Outputs<'w> {
    plan: &'w Plan,
    counts: Counts<'w>,
    external: &'w [View<'w>],
    arena: &'w [f32],
}

impl<'w> Outputs<'w> {
    /// The values of the engine's output `index`: all items, row-major.
    ///
    /// # Panics
    /// If the engine has no output `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> &'w [f32] {
        match self.plan.outputs[index] {
            Source::Input(input) => self.external[input].f32s(),
            Source::Slot(place) => place.values(&self.plan.layout, self.counts, self.arena),
        }
    }
}

/// The kernels of a plan while it is made: nodes that apply the same weights share one, as a layer
/// that is applied several times wants it.
#[derive(Default)]
struct Kernels {
    /// By all that is cheap to look up, then those whose operators are to be compared.
    prepared: HashMap<KernelKey, Vec<PreparedKernel>>,
    weight_bytes: usize,
}

/// A kernel and the operator that it was made by.
type PreparedKernel = (Arc<dyn Operator>, Arc<dyn Kernel>);

/// What makes two nodes' kernels the same, besides equal operators: each operand's shape and which
/// constant it is.
#[derive(PartialEq, Eq, Hash)]
struct KernelKey {
    operator: &'static str,
    operands: Vec<(Shape, Option<ValueId>)>,
}

impl Kernels {
    fn prepare(&mut self, node: &Node, operands: &[Operand], isa: Isa) -> Arc<dyn Kernel> {
        let parts = node.inputs.iter().zip(operands).map(|(value, operand)| {
            let constant = operand.constant.is_some().then_some(*value);
            (operand.shape.clone(), constant)
        });
        let key = KernelKey {
            operator: node.operator.name(),
            operands: parts.collect(),
        };
        let alike = self.prepared.entry(key).or_default();
        let known = alike
            .iter()
            .find(|(operator, _)| same(&**operator, &*node.operator));
        if let Some((_, kernel)) = known {
            return Arc::clone(kernel);
        }
        let kernel: Arc<dyn Kernel> = node.operator.prepare(operands, isa).into();
        self.weight_bytes += kernel.weight_bytes();
        alike.push((Arc::clone(&node.operator), Arc::clone(&kernel)));
        kernel
    }
}

/// Where values lie, while a plan is made.
struct Places {
    sources: HashMap<ValueId, Source>,
    /// The last node that uses a value; `usize::MAX` for outputs.
    last_uses: HashMap<ValueId, usize>,
    /// The values that lie in a slot, by slot: an aliased value holds the slot too.
    holders: Vec<Vec<ValueId>>,
    /// The largest value that a slot ever holds, by slot. All of a slot's values are of one domain.
    slots: Vec<Shape>,
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
        if let Source::Slot(place) = source {
            self.holders[place.slot].push(value);
        }
    }

    /// The step of a node, with slots for its outputs.
    fn step(
        &mut self,
        index: usize,
        kernel: Arc<dyn Kernel>,
        dynamic: &[ValueId],
        outputs: &[(ValueId, &Shape)],
    ) -> Step {
        let mut inputs: Vec<Source> = dynamic.iter().map(|value| self.source(*value)).collect();
        let mut copy = None;
        let mut own = None;
        if kernel.in_place() {
            let first = inputs.remove(0);
            match first {
                Source::Slot(place)
                    if Place::new(place.slot, outputs[0].1) == place
                        && !inputs.contains(&first)
                        && self.is_done(place.slot, index) =>
                {
                    own = Some(place.slot);
                }
                _ => copy = Some(first),
            }
        }
        let slot = own.unwrap_or_else(|| match outputs {
            [(_, shape)] => self.free_slot(index, shape),
            // Those of one node follow each other, and no slots are looked for that do.
            _ => self.new_slots(outputs.iter().map(|(_, shape)| *shape)),
        });
        let slots = outputs.iter().zip(slot..);
        let places = slots.map(|((value, shape), slot)| {
            let place = Place::new(slot, shape);
            self.holders[slot] = vec![*value];
            self.sources.insert(*value, Source::Slot(place));
            place
        });
        Step {
            outputs: places.collect(),
            scratch: kernel.scratch(),
            kernel,
            inputs,
            copy,
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
    fn free_slot(&mut self, index: usize, shape: &Shape) -> usize {
        let free = (0..self.slots.len()).filter(|slot| {
            let mut holders = self.holders[*slot].iter();
            self.slots[*slot].domain == shape.domain
                && holders.all(|holder| self.last_use(*holder) < index)
        });
        let elements = shape.elements();
        let by_size = |slot: &usize| self.slots[*slot].elements();
        let (fitting, small): (Vec<usize>, Vec<usize>) =
            free.partition(|slot| by_size(slot) >= elements);
        let best = fitting
            .into_iter()
            .min_by_key(by_size)
            .or_else(|| small.into_iter().max_by_key(by_size));
        match best {
            Some(slot) => {
                if self.slots[slot].elements() < elements {
                    self.slots[slot] = shape.clone();
                }
                slot
            }
            None => self.new_slots([shape]),
        }
    }

    /// Adds slots that follow each other, and returns the first.
    fn new_slots<'a>(&mut self, shapes: impl IntoIterator<Item = &'a Shape>) -> usize {
        let first = self.slots.len();
        self.slots.extend(shapes.into_iter().cloned());
        self.holders.resize(self.slots.len(), Vec::new());
        first
    }
}

/// Whether two operators are of the same type and have the same attributes.
fn same(first: &dyn Operator, second: &dyn Operator) -> bool {
    let second: &dyn Any = second;
    first.equals(second)
}
