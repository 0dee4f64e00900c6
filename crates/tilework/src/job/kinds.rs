//! The jobs that a program knows, by name: how `run` finds them, and what their specs look like.

use super::Job;
use super::rounds::{Place, Rounds, StartedJob, own_code};
use crate::failure::{CliError, Exit};
use crate::job_state::is_product;
use serde_json::Value;
use serde_reflection::{ContainerFormat, Format, Named, Tracer, TracerConfig};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_core::failure::{Cause, Failure};

/// Jobs of a program. [`jobs!`](crate::jobs) makes them.
pub type Kinds = [&'static dyn Kind];

/// Lists the types of a program's jobs, for [`main`](crate::main()).
#[macro_export]
macro_rules! jobs {
    ($($job:ty),* $(,)?) => {
        &[$(&$crate::job::kinds::KindOf::<$job>::NEW as &'static dyn $crate::job::kinds::Kind),*]
    };
}

/// A job's type, known by its name.
pub trait Kind: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Version of its code.
    fn version(&self) -> u32;
    /// What a spec of it says.
    fn fields(&self) -> Vec<Field>;
    /// Reads a spec as a user gives it.
    ///
    /// # Errors
    /// A spec that is none, by the field that is wrong.
    fn read(&self, spec: Value) -> Result<Spec, CliError>;
    /// Starts a job with this spec.
    ///
    /// # Errors
    /// A spec that is none, and what the job says of it.
    fn start(&self, spec: &Spec, place: Place) -> Result<Arc<StartedJob>, CliError>;
}

/// A spec that was read: every field has its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// As JSON.
    pub value: Value,
    /// The files and folders that the job reads, as the spec names them.
    pub inputs: Vec<PathBuf>,
}

impl Spec {
    /// The spec with other names for its inputs.
    ///
    /// # Errors
    /// What `name` says of a path.
    pub fn with_inputs_named(
        &self,
        name: &dyn Fn(&Path) -> Result<String, CliError>,
    ) -> Result<Value, CliError> {
        let mut value = self.value.clone();
        self.rename_in(&mut value, name)?;
        Ok(value)
    }

    fn rename_in(
        &self,
        value: &mut Value,
        name: &dyn Fn(&Path) -> Result<String, CliError>,
    ) -> Result<(), CliError> {
        match value {
            Value::String(text) => {
                if let Some(input) = self.inputs.iter().find(|input| input.to_str() == Some(text)) {
                    *text = name(input)?;
                }
                Ok(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.rename_in(item, name)),
            Value::Object(fields) => fields
                .values_mut()
                .try_for_each(|field| self.rename_in(field, name)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }
}

/// A field of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, in words; empty where that could not be seen.
    pub type_name: String,
}

/// The type of a job.
pub struct KindOf<J>(PhantomData<fn() -> J>);

impl<J> KindOf<J> {
    /// The only value.
    pub const NEW: KindOf<J> = KindOf(PhantomData);
}

impl<J: Job> Kind for KindOf<J> {
    fn name(&self) -> &'static str {
        J::KIND
    }

    fn version(&self) -> u32 {
        J::VERSION
    }

    fn fields(&self) -> Vec<Field> {
        fields_of::<J>()
    }

    fn read(&self, spec: Value) -> Result<Spec, CliError> {
        let job = read_spec::<J>(spec)?;
        let value = serde_json::to_value(&job)
            .map_err(|error| CliError::usage(format!("the spec of `{}` can't be kept: {error}", J::KIND)))?;
        // JSON has no infinities, for one.
        read_spec::<J>(value.clone()).map_err(|error| {
            let message = format!("the spec of `{}` can't be kept: {}", J::KIND, error.message);
            CliError { message, ..error }
        })?;
        let inputs = own_code::<J, _>("inputs", || Ok(job.inputs())).map_err(refused::<J>)?;
        Ok(Spec { value, inputs })
    }

    fn start(&self, spec: &Spec, place: Place) -> Result<Arc<StartedJob>, CliError> {
        let job = read_spec::<J>(spec.value.clone())?;
        Ok(Arc::new(Rounds::start(job, place).map_err(refused::<J>)?))
    }
}

fn refused<J: Job>(failure: Failure) -> CliError {
    let refusal = match failure.cause {
        Cause::Panic => CliError::new(Exit::JobFailed, failure.text),
        _ => CliError::usage(format!("`{}` refuses its spec: {}", J::KIND, failure.text)),
    };
    refusal.with_next("mend what it names, then run the same command again")
}

/// Bytes of a job's name, at most.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// Refuses a program whose jobs can't be told apart, or not be named.
///
/// # Errors
/// The first name that can't be used.
pub fn check(kinds: &Kinds) -> Result<(), CliError> {
    for (i, kind) in kinds.iter().enumerate() {
        check_name(kind.name())?;
        if kinds[..i].iter().any(|other| other.name() == kind.name()) {
            let message = format!("two jobs of this program are called `{}`", kind.name());
            return Err(CliError::usage(message).with_next("give one of them another KIND"));
        }
    }
    Ok(())
}

/// Whether a job may be called so: the name is typed by users, and part of file names.
///
/// # Errors
/// If not, with what may be.
pub(super) fn check_name(name: &str) -> Result<(), CliError> {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_well_formed =
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_of_name) && !name.starts_with('-');
    let problem = if !is_well_formed {
        format!(
            "lower case letters, digits and `-`, at most {NAME_BYTES_MAX}, are what a job's name is made of"
        )
    } else if is_product(name) {
        "it is the name of a matrix product".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("no job of this program can be called `{name}`: {problem}");
    Err(CliError::usage(message).with_next("give the job another KIND"))
}

/// The job of that name.
///
/// # Errors
/// With all names that there are.
pub fn find<'k>(kinds: &'k Kinds, name: &str) -> Result<&'k dyn Kind, CliError> {
    let found = kinds.iter().find(|kind| kind.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let known = if names.is_empty() {
            "it knows only matrix products: tilework multiply, tilework gram".to_owned()
        } else {
            format!("it knows: {}", names.join(", "))
        };
        CliError::usage(format!("this program knows no job `{name}`")).with_next(known)
    })
}

fn read_spec<J: Job>(spec: Value) -> Result<J, CliError> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(spec, |path| unknown.push(path.to_string()));
    let problem = match read {
        Ok(job) if unknown.is_empty() => return Ok(job),
        Ok(_) => format!("unknown field `{}`", unknown.join("`, `")),
        Err(error) => error.to_string(),
    };
    let fields: Vec<String> = fields_of::<J>().iter().map(Field::to_string).collect();
    Err(
        CliError::usage(format!("the spec of `{}`: {problem}", J::KIND)).with_next(format!(
            "give its fields with --set or --spec: {}",
            fields.join(", ")
        )),
    )
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        if self.type_name.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.type_name)
        }
    }
}

/// What the spec's own reader asks for. One that refuses made-up values leaves the names of what it saw before.
fn fields_of<J: Job>() -> Vec<Field> {
    let mut tracer = Tracer::new(TracerConfig::default());
    let Ok((Format::TypeName(name), _)) = tracer.trace_simple_type::<J>() else {
        return Vec::new();
    };
    match tracer.registry_unchecked().remove(&name) {
        Some(ContainerFormat::Struct(fields)) => fields.into_iter().map(Field::of).collect(),
        _ => Vec::new(),
    }
}

impl Field {
    fn of(named: Named<Format>) -> Field {
        Field {
            type_name: type_name(&named.value),
            name: named.name,
        }
    }
}

/// A type as JSON writes its values.
fn type_name(format: &Format) -> String {
    match format {
        Format::Bool => "true or false".to_owned(),
        Format::I8 | Format::I16 | Format::I32 | Format::I64 | Format::I128 => "integer".to_owned(),
        Format::U8 | Format::U16 | Format::U32 | Format::U64 | Format::U128 => {
            "integer, at least 0".to_owned()
        }
        Format::F32 | Format::F64 => "number".to_owned(),
        Format::Char | Format::Str => "text".to_owned(),
        Format::Option(inner) => format!("{}, or nothing", type_name(inner)),
        Format::Seq(inner) => format!("list of {}", type_name(inner)),
        Format::Tuple(items) => format!("list of {}", items.len()),
        Format::TupleArray { content, size } => format!("list of {size} {}", type_name(content)),
        Format::Map { value, .. } => format!("object of {}", type_name(value)),
        Format::TypeName(name) => name.clone(),
        Format::Unit | Format::Bytes | Format::Variable(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, Next, Report, TaskContext, TaskError};
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example {
        samples: u64,
        #[serde(default)]
        names: Option<Vec<String>>,
        scale: f64,
    }

    impl Job for Example {
        const KIND: &'static str = "example";
        const VERSION: u32 = 1;
        type State = ();
        type Output = ();

        fn start(&self, _: &Files) -> Result<(), TaskError> {
            Ok(())
        }

        fn tasks(&self, (): &()) -> u64 {
            1
        }

        fn run(&self, (): &(), _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
            Ok(())
        }

        fn advance(&self, (): &(), _: &mut dyn Iterator<Item = ()>) -> Result<Next<()>, TaskError> {
            Ok(Next::Done(Report::json(&())?))
        }
    }

    /// An infinity became nothing, and what was kept of the spec could not be read when the job was to go on.
    #[test]
    fn a_spec_that_can_not_be_kept_is_refused_when_it_is_given() {
        let kind = KindOf::<Wide>::NEW;
        assert_eq!(kind.read(json!({ "x": 0.5 })).unwrap().value, json!({ "x": 0.5 }));
        let error = kind.read(json!({ "x": 1e39 })).unwrap_err();
        assert!(
            error.message.contains("`wide` can't be kept"),
            "{}",
            error.message
        );
    }

    #[derive(Serialize, Deserialize)]
    struct Wide {
        x: f32,
    }

    impl Job for Wide {
        const KIND: &'static str = "wide";
        const VERSION: u32 = 1;
        type State = ();
        type Output = ();

        fn start(&self, _: &Files) -> Result<(), TaskError> {
            Ok(())
        }

        fn tasks(&self, (): &()) -> u64 {
            1
        }

        fn run(&self, (): &(), _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
            Ok(())
        }

        fn advance(&self, (): &(), _: &mut dyn Iterator<Item = ()>) -> Result<Next<()>, TaskError> {
            Ok(Next::Done(Report::json(&())?))
        }
    }

    fn read(spec: Value) -> Result<Example, String> {
        read_spec(spec).map_err(|error| error.message)
    }

    #[test]
    fn fields_are_told_with_their_types() {
        let fields = fields_of::<Example>();
        let fields: Vec<String> = fields.iter().map(Field::to_string).collect();
        assert_eq!(
            fields,
            [
                "samples: integer, at least 0",
                "names: list of text, or nothing",
                "scale: number"
            ]
        );
    }

    #[test]
    fn a_spec_is_read_whole_or_refused_with_the_field() {
        let expected = Example {
            samples: 3,
            names: None,
            scale: 0.5,
        };
        assert_eq!(read(json!({ "samples": 3, "scale": 0.5 })), Ok(expected));
        for (spec, complaint) in [
            (json!({ "samples": 3 }), "missing field `scale`"),
            (
                json!({ "samples": -3, "scale": 1 }),
                "invalid value: integer `-3`",
            ),
            (
                json!({ "samples": 3, "scale": 1, "scael": 2 }),
                "unknown field `scael`",
            ),
        ] {
            let error = read(spec).unwrap_err();
            assert!(
                error.contains(complaint) && error.contains("`example`"),
                "{error}"
            );
        }
    }

    #[test]
    fn inputs_get_other_names_wherever_the_spec_has_them() {
        let spec = Spec {
            value: json!({ "matrix": "a.npy", "others": ["b.npy", "a.npy"], "title": "c.npy", "n": 3 }),
            inputs: vec![PathBuf::from("a.npy"), PathBuf::from("b.npy")],
        };
        let name = |path: &Path| Ok(format!("data:/{}", path.display()));
        assert_eq!(
            spec.with_inputs_named(&name).unwrap(),
            json!({ "matrix": "data:/a.npy", "others": ["data:/b.npy", "data:/a.npy"], "title": "c.npy", "n": 3 })
        );
    }

    #[test]
    fn names_that_can_not_be_used_are_refused() {
        for name in ["a", "word-count", "2d-fft", &"x".repeat(64)] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "a/b",
            "..",
            "Word",
            "w c",
            "w_c",
            "-x",
            "\u{e4}",
            "multiply",
            "gram",
            &"x".repeat(65),
        ] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(&format!("`{name}`")), "{error}");
        }
        check(crate::jobs![Example]).unwrap();
        let error = check(crate::jobs![Example, Example]).unwrap_err();
        assert!(
            error
                .message
                .contains("two jobs of this program are called `example`"),
            "{error}"
        );
    }

    #[test]
    fn jobs_are_found_by_name() {
        let kinds: &Kinds = crate::jobs![Example];
        assert_eq!(find(kinds, "example").unwrap().version(), 1);
        let error = find(kinds, "exmaple").err().unwrap();
        assert!(error.next.unwrap().contains("example"));
    }
}
