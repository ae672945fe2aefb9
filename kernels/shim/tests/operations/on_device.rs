//! Carries out the case of a vector file on a device: `kernels/tests/common/operators.rs` on device memory.

use super::operators::Outputs;
use super::vector_file::Case;
use essaim_kernels::Layout;
use essaim_kernels::cuda::{Buffer, Device, DeviceError, ops};
use essaim_kernels::ops::{AdamwScalars, AttentionShape, LinearShape, NesterovScalars, RopeShape};

/// A case on a device. Outputs that are overwritten start undefined, which in the shim is a NaN.
pub(crate) struct Run<'a> {
    pub(crate) device: &'a Device,
    pub(crate) case: &'a Case,
}

type Outcome = Result<Outputs, DeviceError>;

impl Run<'_> {
    fn input(&self, name: &str) -> Buffer<f32> {
        self.device.buffer_from(&self.case.f32s(name)).unwrap()
    }

    fn ids(&self, name: &str) -> Buffer<u32> {
        self.device.buffer_from(&self.case.u32s(name)).unwrap()
    }

    fn buffer(&self, len: usize) -> Buffer<f32> {
        self.device.buffer(len).unwrap()
    }

    fn int(&self, name: &str) -> usize {
        self.case.int(name)
    }

    fn float(&self, name: &str) -> f32 {
        self.case.float(name)
    }

    /// The case's outputs; none when the operation is not one of a device.
    pub(crate) fn outputs(&self) -> Result<Option<Outputs>, DeviceError> {
        let outputs = match self.case.operation.as_str() {
            "rope_tables" => return Ok(None),
            "gemm" => self.gemm(),
            name if name.starts_with("linear") => self.linear(),
            "attention" => self.attention(),
            "adamw_update" => self.adamw(),
            "nesterov_update" => self.nesterov(),
            name if name.starts_with("embedding") || name.starts_with("rope") => self.tokens(),
            name if name.starts_with("rmsnorm") => self.norm(),
            name if name.starts_with("swiglu") => self.swiglu(),
            "cross_entropy" => self.cross_entropy(),
            name if name.starts_with("row_") || name.starts_with("col_") => self.rows_and_columns(),
            "sum" | "sum_squares" | "dot" | "max_abs" => self.reductions(),
            _ => self.elementwise(),
        };
        outputs.map(Some)
    }

    fn gemm(&self) -> Outcome {
        let layout = [Layout::NN, Layout::NT, Layout::TN][self.int("layout")];
        let [m, n, k, lda, ldb, ldc] = ["m", "n", "k", "lda", "ldb", "ldc"].map(|name| self.int(name));
        let (a, b, mut c) = (self.input("a"), self.input("b"), self.input("c"));
        let (a, b) = (a.view(..), b.view(..));
        ops::gemm(self.device, layout, m, n, k, a, lda, b, ldb, c.view_mut(..), ldc, self.int("accumulate") == 1)?;
        Ok(vec![("c", read(&c)?)])
    }

    fn linear(&self) -> Outcome {
        let shape =
            LinearShape { tokens: self.int("tokens"), inputs: self.int("inputs"), outputs: self.int("outputs") };
        match self.case.operation.as_str() {
            "linear_forward" => {
                let mut y = self.buffer(shape.tokens * shape.outputs);
                let (x, w) = (self.input("x"), self.input("w"));
                ops::linear_forward(self.device, shape, x.view(..), w.view(..), y.view_mut(..))?;
                Ok(vec![("y", read(&y)?)])
            }
            "linear_backward_input" => {
                let (dy, w, mut dx) = (self.input("dy"), self.input("w"), self.input("dx"));
                let accumulate = self.int("accumulate") == 1;
                ops::linear_backward_input(self.device, shape, dy.view(..), w.view(..), dx.view_mut(..), accumulate)?;
                Ok(vec![("dx", read(&dx)?)])
            }
            _ => {
                let (dy, x, mut dw) = (self.input("dy"), self.input("x"), self.input("dw"));
                ops::linear_backward_weight(self.device, shape, dy.view(..), x.view(..), dw.view_mut(..))?;
                Ok(vec![("dw", read(&dw)?)])
            }
        }
    }

    fn attention(&self) -> Outcome {
        let [batch, seq, heads, kv_heads, head_dim] =
            ["batch", "seq", "heads", "kv_heads", "head_dim"].map(|name| self.int(name));
        let shape = AttentionShape { batch, seq, heads, kv_heads, head_dim };
        let [q, k, v, dout] = ["q", "k", "v", "dout"].map(|name| self.input(name));
        let (q, k, v, dout) = (q.view(..), k.view(..), v.view(..), dout.view(..));
        let (mut out, mut stats) = (self.buffer(shape.q_len()), self.buffer(shape.stats_len()));
        ops::attention_forward(self.device, shape, q, k, v, out.view_mut(..), stats.view_mut(..))?;
        let mut scratch = self.buffer(ops::attention_scratch_len(&shape));
        let (mut dq, mut dk, mut dv) =
            (self.buffer(shape.q_len()), self.buffer(shape.kv_len()), self.buffer(shape.kv_len()));
        let (dq_view, dk_view, dv_view) = (dq.view_mut(..), dk.view_mut(..), dv.view_mut(..));
        let (saved, device) = ((out.view(..), stats.view(..)), self.device);
        let scratch = scratch.view_mut(..);
        ops::attention_backward(device, shape, q, k, v, saved.0, saved.1, dout, dq_view, dk_view, dv_view, scratch)?;
        Ok(vec![
            ("out", read(&out)?),
            ("stats", read(&stats)?),
            ("dq", read(&dq)?),
            ("dk", read(&dk)?),
            ("dv", read(&dv)?),
        ])
    }

    fn tokens(&self) -> Outcome {
        match self.case.operation.as_str() {
            "embedding_forward" => {
                let (ids, table) = (self.ids("ids"), self.input("table"));
                let mut out = self.buffer(ids.len() * self.int("d"));
                ops::embedding_forward(self.device, ids.view(..), table.view(..), out.view_mut(..))?;
                Ok(vec![("out", read(&out)?)])
            }
            "embedding_backward" => {
                let (ids, dout, mut dtable) = (self.ids("ids"), self.input("dout"), self.input("dtable"));
                let mut scratch = self.device.buffer(ops::embedding_scratch_len(ids.len()))?;
                let (ids, dout, scratch) = (ids.view(..), dout.view(..), scratch.view_mut(..));
                ops::embedding_backward(self.device, ids, dout, dtable.view_mut(..), scratch)?;
                Ok(vec![("dtable", read(&dtable)?)])
            }
            name => {
                let shape =
                    RopeShape { seq: self.int("seq"), heads: self.int("heads"), head_dim: self.int("head_dim") };
                let (mut x, cos, sin) = (self.input("x"), self.input("cos"), self.input("sin"));
                let rotate = if name == "rope_forward" { ops::rope_forward } else { ops::rope_backward };
                rotate(self.device, shape, x.view_mut(..), cos.view(..), sin.view(..))?;
                Ok(vec![("x", read(&x)?)])
            }
        }
    }

    fn norm(&self) -> Outcome {
        let (x, w) = (self.input("x"), self.input("w"));
        if self.case.operation == "rmsnorm_forward" {
            let (mut y, mut rstd) = (self.buffer(x.len()), self.buffer(self.int("tokens")));
            let eps = self.float("eps");
            ops::rmsnorm_forward(self.device, x.view(..), w.view(..), eps, y.view_mut(..), rstd.view_mut(..))?;
            return Ok(vec![("y", read(&y)?), ("rstd", read(&rstd)?)]);
        }
        let (rstd, dy, mut dx, mut dw) = (self.input("rstd"), self.input("dy"), self.input("dx"), self.input("dw"));
        let (inputs, accumulate) = ([&x, &w, &rstd, &dy].map(|input| input.view(..)), self.int("accumulate") == 1);
        let [x, w, rstd, dy] = inputs;
        ops::rmsnorm_backward(self.device, x, w, rstd, dy, dx.view_mut(..), accumulate, dw.view_mut(..))?;
        Ok(vec![("dx", read(&dx)?), ("dw", read(&dw)?)])
    }

    fn swiglu(&self) -> Outcome {
        let (gate, up) = (self.input("gate"), self.input("up"));
        if self.case.operation == "swiglu_forward" {
            let mut out = self.buffer(gate.len());
            ops::swiglu_forward(self.device, gate.view(..), up.view(..), out.view_mut(..))?;
            return Ok(vec![("out", read(&out)?)]);
        }
        let (dout, mut dgate, mut dup) = (self.input("dout"), self.buffer(gate.len()), self.buffer(gate.len()));
        let (gate, up, dout) = (gate.view(..), up.view(..), dout.view(..));
        ops::swiglu_backward(self.device, gate, up, dout, dgate.view_mut(..), dup.view_mut(..))?;
        Ok(vec![("dgate", read(&dgate)?), ("dup", read(&dup)?)])
    }

    fn cross_entropy(&self) -> Outcome {
        let (mut logits, targets) = (self.input("logits"), self.ids("targets"));
        let (mut losses, mut again) = (self.buffer(targets.len()), self.buffer(targets.len()));
        ops::cross_entropy_losses(self.device, logits.view(..), targets.view(..), again.view_mut(..))?;
        let scale = self.float("grad_scale");
        let (gradient, losses_view) = (logits.view_mut(..), losses.view_mut(..));
        ops::cross_entropy_forward_backward(self.device, gradient, targets.view(..), losses_view, scale)?;
        let as_bits = |x: Vec<f32>| x.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(as_bits(read(&losses)?), as_bits(read(&again)?), "losses with and without gradient");
        Ok(vec![("losses", read(&losses)?), ("gradient", read(&logits)?)])
    }

    fn reductions(&self) -> Outcome {
        let x = self.input("x");
        let (mut out, mut scratch) = (self.buffer(1), self.buffer(ops::sum_scratch_len(x.len())));
        let (view, scratch) = (out.view_mut(..), scratch.view_mut(..));
        match self.case.operation.as_str() {
            "sum" => ops::sum(self.device, x.view(..), view, scratch)?,
            "sum_squares" => ops::sum_squares(self.device, x.view(..), view, scratch)?,
            "dot" => ops::dot(self.device, x.view(..), self.input("y").view(..), view, scratch)?,
            _ => ops::max_abs(self.device, x.view(..), view, scratch)?,
        }
        Ok(vec![("result", read(&out)?)])
    }

    fn rows_and_columns(&self) -> Outcome {
        let x = self.input("x");
        let name = self.case.operation.as_str();
        let mut out = self.buffer(self.int(if name.starts_with("row") { "rows" } else { "cols" }));
        let operation = match name {
            "row_sums" => ops::row_sums,
            "row_sum_squares" => ops::row_sum_squares,
            "col_sums" => ops::col_sums,
            _ => ops::col_sum_squares,
        };
        operation(self.device, x.view(..), out.view_mut(..))?;
        Ok(vec![("result", read(&out)?)])
    }

    fn adamw(&self) -> Outcome {
        let [lr, beta1, beta2, eps, weight_decay, bias1, bias2] =
            ["lr", "beta1", "beta2", "eps", "weight_decay", "bias1", "bias2"].map(|name| self.float(name));
        let scalars = AdamwScalars { lr, beta1, beta2, eps, weight_decay, bias1, bias2 };
        let [mut p, g, mut m, mut v] = ["p", "g", "m", "v"].map(|name| self.input(name));
        ops::adamw_update(self.device, p.view_mut(..), g.view(..), m.view_mut(..), v.view_mut(..), &scalars)?;
        Ok(vec![("p", read(&p)?), ("m", read(&m)?), ("v", read(&v)?)])
    }

    fn nesterov(&self) -> Outcome {
        let [mut p, g, mut b] = ["p", "g", "b"].map(|name| self.input(name));
        let scalars = NesterovScalars { lr: self.float("lr"), mu: self.float("mu") };
        ops::nesterov_update(self.device, p.view_mut(..), g.view(..), b.view_mut(..), &scalars)?;
        Ok(vec![("p", read(&p)?), ("b", read(&b)?)])
    }

    fn elementwise(&self) -> Outcome {
        let (device, name) = (self.device, self.case.operation.as_str());
        let x = self.input("x");
        let unary = ["exp", "log", "rsqrt", "sigmoid", "silu", "sqrt", "scale"];
        let mut y = if unary.contains(&name) { self.input("x") } else { self.input("y") };
        let mut out = self.buffer(x.len());
        match name {
            "exp" => ops::exp_slice(device, y.view_mut(..))?,
            "log" => ops::log_slice(device, y.view_mut(..))?,
            "rsqrt" => ops::rsqrt_slice(device, y.view_mut(..))?,
            "sigmoid" => ops::sigmoid_slice(device, y.view_mut(..))?,
            "silu" => ops::silu_slice(device, y.view_mut(..))?,
            "sqrt" => ops::sqrt_assign(device, y.view_mut(..))?,
            "scale" => ops::scale(device, y.view_mut(..), self.float("a"))?,
            "add_assign" => ops::add_assign(device, y.view_mut(..), x.view(..))?,
            "mul_assign" => ops::mul_assign(device, y.view_mut(..), x.view(..))?,
            "div_assign" => ops::div_assign(device, y.view_mut(..), x.view(..))?,
            "scaled_add" => ops::scaled_add(device, y.view_mut(..), self.float("a"), x.view(..))?,
            "lerp" => ops::lerp(device, y.view_mut(..), self.float("w"), x.view(..))?,
            "axpby" => ops::axpby(device, y.view_mut(..), self.float("a"), self.float("b"), x.view(..))?,
            "add" => ops::add(device, x.view(..), y.view(..), out.view_mut(..))?,
            "sub" => ops::sub(device, x.view(..), y.view(..), out.view_mut(..))?,
            name => panic!("unknown operation {name:?}"),
        }
        Ok(vec![("result", if ["add", "sub"].contains(&name) { read(&out)? } else { read(&y)? })])
    }
}

/// A copy of a buffer's elements.
pub(crate) fn read(buffer: &Buffer<f32>) -> Result<Vec<f32>, DeviceError> {
    let mut values = vec![0.0; buffer.len()];
    buffer.download(&mut values)?;
    Ok(values)
}
