//! `multiply`: C = alpha·A·B + beta·D, file to file, or to the terminal.

use super::audience::Teller;
use super::clustered;
use crate::args::multiply::{FormulaArgs, MultiplyArgs, ProductArgs, ResourceArgs, RunArgs};
use crate::failure::{CliError, Exit};
use crate::output::{Output, print};
use crate::product::inputs::{AddRequest, InputRequest, Paths};
use crate::product::request::{ProductRequest, Resources};
use crate::product::running::compute;
use crate::settings::Settings;
use crate::signals;
use crate::webhook::address::WebhookUrl;
use crate::webhook::{Delivery, Webhook};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tilework_kernel::Simd;
use tilework_linalg::AlgorithmChoice;
use tilework_runtime::StopSwitch;
use tilework_store::disk::{Disk, RealDisk};
use tilework_store::element_type::{Dtype, Scalar};
use tilework_store::matrix::MatrixSource;
use tilework_store::text::format_text;

/// Largest result that `-o -` prints, in elements.
const PRINTED_ELEMENTS_MAX: u64 = 1 << 20;

/// Runs the command.
pub fn run(args: &MultiplyArgs, output: &Output) -> Result<(), CliError> {
    let inputs = input_request(&args.product)?;
    let algorithm = args.product.algorithm;
    run_product(
        inputs,
        algorithm,
        &args.output,
        &args.run,
        &args.resources,
        output,
    )
}

/// Computes a product, into the file `destination` or onto the terminal.
pub(crate) fn run_product(
    inputs: InputRequest,
    algorithm: AlgorithmChoice,
    destination: &Path,
    run: &RunArgs,
    resources: &ResourceArgs,
    output: &Output,
) -> Result<(), CliError> {
    if let Some(cluster) = &run.cluster.cluster {
        return clustered::run_product(cluster, &inputs, algorithm, destination, run, resources, output);
    }
    let request = request(inputs, algorithm, destination, run, resources, output)?;
    let stop = stop_switch(resources, run.time_limit, output)?;
    let webhook = run.alert_webhook.as_ref();
    if destination == Path::new("-") {
        compute_to_terminal(request, &stop, webhook, output)
    } else {
        compute_and_report(&request, &stop, webhook, output)
    }
}

/// Computes, with signals handled and progress shown, and reports.
pub(crate) fn compute_and_report(
    request: &ProductRequest,
    stop: &StopSwitch,
    webhook: Option<&WebhookUrl>,
    output: &Output,
) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let _signals = signals::stop_on_signals(stop, output)?;
    let teller = Teller::new(
        output,
        webhook.map(|url| started(url, &request.output)).transpose()?,
    );
    let report = compute(&disk, request, stop, &teller, output.started());
    let facts = told(teller.finish().as_ref());
    let report = report.map_err(|error| error.with_facts(facts.clone()))?;
    let name = request.output.display().to_string();
    output.report(with_members(report.to_json(), facts), |out| {
        report.write(out, &name)
    })
}

/// What a webhook was told, for the report.
pub(crate) fn told(delivery: Option<&Delivery>) -> Value {
    delivery.map_or(Value::Null, |delivery| json!({ "webhook": delivery.to_json() }))
}

/// An object with another one's members besides.
pub(crate) fn with_members(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

/// A webhook for the job that makes `output`.
pub(crate) fn started(url: &WebhookUrl, output: &Path) -> Result<Webhook, CliError> {
    Webhook::start(url.clone(), output)
        .map_err(|error| CliError::new(Exit::JobFailed, format!("cannot start a thread: {error}")))
}

/// What was asked for.
fn request(
    inputs: InputRequest,
    algorithm: AlgorithmChoice,
    destination: &Path,
    run: &RunArgs,
    allowed: &ResourceArgs,
    output: &Output,
) -> Result<ProductRequest, CliError> {
    let settings = Settings::resolve(allowed, run.time_limit, output.started())?;
    Ok(ProductRequest {
        inputs,
        output: destination.to_path_buf(),
        resources: resources(&settings)?,
        overwrite: run.overwrite,
        restart: run.restart,
        algorithm,
    })
}

pub(crate) fn input_request(args: &ProductArgs) -> Result<InputRequest, CliError> {
    Ok(InputRequest {
        a: args.a.clone(),
        b: args.b.clone(),
        paths_are: Paths::Local,
        transpose_a: args.transpose_a,
        transpose_b: args.transpose_b,
        symmetric: false,
        dtype: args.dtype,
        alpha: args.formula.alpha,
        add: add_request(&args.formula)?,
    })
}

/// What is added. A factor of nothing is refused.
pub(crate) fn add_request(args: &FormulaArgs) -> Result<Option<AddRequest>, CliError> {
    match (&args.add, args.beta) {
        (Some(d), beta) => Ok(Some(AddRequest {
            d: d.clone(),
            beta: beta.unwrap_or(1.0),
        })),
        (None, None) => Ok(None),
        (None, Some(beta)) => Err(CliError::usage(format!(
            "--beta {beta} is the factor of a matrix that is added, and there is none"
        ))
        .with_next(format!(
            "name it: --beta {beta} --add D.npy; the product's own factor is --alpha"
        ))),
    }
}

pub(crate) fn resources(settings: &Settings) -> Result<Resources, CliError> {
    Ok(Resources {
        memory_bytes: settings.memory_bytes,
        n_threads: settings.n_threads,
        n_workers: settings.n_workers,
        n_processes: 1,
        assign: settings.assign,
        simd: simd()?,
    })
}

pub(crate) fn stop_switch(
    resources: &ResourceArgs,
    time_limit: Option<std::time::Duration>,
    output: &Output,
) -> Result<StopSwitch, CliError> {
    Ok(StopSwitch::with_deadline(
        Settings::resolve(resources, time_limit, output.started())?.deadline,
    ))
}

/// The best instruction set here, or the one that `TILEWORK_SIMD` names.
pub(crate) fn simd() -> Result<Simd, CliError> {
    let Ok(name) = std::env::var("TILEWORK_SIMD") else {
        return Ok(Simd::detect());
    };
    let simd: Simd = name
        .parse()
        .map_err(|error| CliError::usage(format!("TILEWORK_SIMD: {error}")))?;
    if simd.is_supported() {
        Ok(simd)
    } else {
        Err(
            CliError::usage(format!("TILEWORK_SIMD: this processor has no {simd}"))
                .with_next("unset TILEWORK_SIMD"),
        )
    }
}

/// Computes into a temporary file by the same way as any other product, and prints it.
fn compute_to_terminal(
    request: ProductRequest,
    stop: &StopSwitch,
    webhook: Option<&WebhookUrl>,
    output: &Output,
) -> Result<(), CliError> {
    if output.is_json() {
        let error =
            CliError::usage("`-o -` prints the matrix, and --json prints JSON: they exclude each other");
        return Err(error.with_next("write the product to a file with -o C.npy, or leave --json out"));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let folder = tempfile::tempdir().map_err(|error| {
        CliError::new(
            Exit::JobFailed,
            format!("cannot make a temporary folder: {error}"),
        )
    })?;
    let file = folder.path().join("C.npy");
    let request = ProductRequest {
        output: file.clone(),
        ..request
    };
    // The inputs are opened for their shapes only: the run opens its own.
    let (rows, cols, dtype) = {
        let inputs = request.inputs.open(&disk)?;
        (inputs.a.rows(), inputs.b.cols(), inputs.spec.dtype)
    };
    if rows.saturating_mul(cols) > PRINTED_ELEMENTS_MAX {
        let error = CliError::usage(format!("the product is {rows} x {cols}: too large to print"));
        return Err(error.with_next("write it to a file with -o C.npy"));
    }
    let quiet = Output::new(false, true, 0, output.started());
    compute_and_report(&request, stop, webhook, &quiet).map_err(nothing_kept)?;
    let product = MatrixSource::open(&RealDisk, &file)?;
    match dtype {
        Dtype::F64 => print_matrix::<f64>(&product),
        Dtype::F32 => print_matrix::<f32>(&product),
    }
}

/// What was computed on the way to the terminal is gone with its temporary folder.
fn nothing_kept(error: CliError) -> CliError {
    error.with_next("run the command again; only an output with a name can be resumed")
}

fn print_matrix<T: Scalar>(matrix: &MatrixSource) -> Result<(), CliError> {
    let (rows, cols) = (matrix.info().rows, matrix.info().cols);
    let mut values = vec![T::default(); (rows * cols) as usize];
    matrix.read_block(0..rows, 0..cols, &mut values)?;
    print(|out| format_text(out, &values, cols as usize))
}
