use std::collections::BTreeSet;

use input_validation::Backend;
use proptest::{collection, prelude::*, sample::subsequence};

use super::*;
use crate::{Feature, Format, Support};

fn needs() -> Needs {
    Needs {
        format: Format::Gguf,
        architecture: "llama".into(),
        tensor_types: BTreeSet::from(["Q4_K".into(), "F32".into()]),
        backend: Backend::Cpu,
        features: BTreeSet::new(),
        not_built_in: None,
    }
}

fn engine(name: &str, availability: Availability) -> Declaration {
    Declaration {
        name: name.into(),
        worker_type: "adapter-worker-rbee".parse().unwrap(),
        availability,
        formats: BTreeSet::from([Format::Gguf]),
        architectures: Support::Any,
        tensor_types: Support::Any,
        backends: vec![Backend::Cpu],
        features: BTreeSet::new(),
    }
}

fn builtin() -> Declaration {
    Declaration {
        architectures: Support::only(["llama", "qwen2"]),
        tensor_types: Support::only(["F32", "F16", "Q4_K"]),
        ..engine("builtin", Availability::BuiltIn)
    }
}

fn package(id: &str, agreed: bool) -> Availability {
    Availability::Package {
        id: id.into(),
        agreed,
    }
}

#[test]
fn the_built_in_engine_comes_first_if_it_supports_everything() {
    let engines = [engine("llama-cpp", Availability::Installed), builtin()];
    let choice = choose(&needs(), &engines, None).unwrap();
    assert_eq!(
        (choice.engine.name.as_str(), choice.step),
        ("builtin", Step::Start)
    );
    assert_eq!(choice.verdicts[0], ("llama-cpp", Verdict::NotNeeded));

    let mut unknown = needs();
    unknown.tensor_types.insert("IQ2_XS".into());
    let choice = choose(&unknown, &engines, None).unwrap();
    assert_eq!(choice.engine.name, "llama-cpp");
    assert_eq!(
        choice.verdicts[1].1.to_string(),
        "it does not support tensor type IQ2_XS"
    );
    let mut other = needs();
    other.not_built_in = Some("bidirectional attention".into());
    assert_eq!(
        choose(&other, &engines, None).unwrap().engine.name,
        "llama-cpp"
    );
}

#[test]
fn a_package_needs_the_agreement_of_the_user() {
    let mut unknown = needs();
    unknown.architecture = "new\u{1b}".into();
    let engines = |agreed| {
        [
            builtin(),
            engine("llama-cpp", package("llama-cpp-cpu", agreed)),
        ]
    };
    let refused = engines(false);
    let error = choose(&unknown, &refused, None).unwrap_err();
    assert_eq!(error.code, Code::PackageNotApproved);
    assert_eq!(
        error.message,
        "builtin does not support architecture new\\u{1b}; llama-cpp would run the model"
    );
    assert!(
        error
            .hint
            .unwrap()
            .contains("--package llama-cpp-cpu --approve`")
    );
    let agreed = engines(true);
    let choice = choose(&unknown, &agreed, None).unwrap();
    assert_eq!(
        (choice.engine.name.as_str(), choice.step),
        ("llama-cpp", Step::Provision)
    );
}

#[test]
fn a_named_engine_is_never_replaced() {
    let engines = [builtin(), engine("llama-cpp", Availability::Installed)];
    let named = choose(&needs(), &engines, Some("llama-cpp")).unwrap();
    assert_eq!(named.engine.name, "llama-cpp");
    assert_eq!(named.verdicts[0].1, Verdict::NotNamed);
    let mut unknown = needs();
    unknown.architecture = "new".into();
    let error = choose(&unknown, &engines, Some("builtin")).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.hint.unwrap().contains("use the engine llama-cpp"));
    let error = choose(&needs(), &engines, Some("vllm")).unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert_eq!(error.hint.unwrap(), "use one of: builtin, llama-cpp");
}

#[test]
fn a_refusal_has_the_code_of_what_is_missing() {
    let engines = [builtin()];
    let code = |change: fn(&mut Needs)| {
        let mut needs = needs();
        change(&mut needs);
        choose(&needs, &engines, None).unwrap_err().code
    };
    assert_eq!(
        code(|n| n.tensor_types = BTreeSet::from(["TQ1_0".into()])),
        Code::UnsupportedQuantization
    );
    assert_eq!(
        code(|n| n.backend = Backend::Cuda),
        Code::BackendUnavailable
    );
    assert_eq!(
        code(|n| n.format = Format::Safetensors),
        Code::UnsupportedModel
    );
    assert_eq!(
        code(|n| n.features = BTreeSet::from([Feature::Vision])),
        Code::UnsupportedModel
    );
    let none = choose(&needs(), &[], None).unwrap_err();
    assert_eq!(none.message, "no engine is installed on this node");
}

#[test]
fn an_engine_that_runs_already_is_used_only_if_it_is_named() {
    let mut unknown = needs();
    unknown.architecture = "new".into();
    let engines = [builtin(), engine("served", Availability::Attached)];
    let error = choose(&unknown, &engines, None).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.hint.unwrap().contains("`--engine served`"));
    let named = choose(&unknown, &engines, Some("served")).unwrap();
    assert_eq!(named.engine.name, "served");
    let other = choose(&needs(), &engines, None).unwrap();
    assert_eq!(other.verdicts[1].1, Verdict::OnlyNamed);
}

const FEATURES: [Feature; 3] = [Feature::Vision, Feature::Tools, Feature::Embeddings];
const BACKENDS: [Backend; 2] = [Backend::Cpu, Backend::Cuda];

fn support() -> impl Strategy<Value = Support> {
    prop_oneof![
        Just(Support::Any),
        subsequence(vec!["a", "b", "c"], 0..=3).prop_map(Support::only),
    ]
}

fn declarations() -> impl Strategy<Value = Vec<Declaration>> {
    let availability = prop_oneof![
        Just(Availability::BuiltIn),
        Just(Availability::Installed),
        any::<bool>().prop_map(|agreed| package("p", agreed)),
    ];
    let one = (
        availability,
        subsequence(vec![Format::Gguf, Format::Safetensors], 0..=2),
        support(),
        support(),
        subsequence(BACKENDS.to_vec(), 0..=2),
        subsequence(FEATURES.to_vec(), 0..=3),
    );
    let one = one.prop_map(
        |(availability, formats, architectures, tensor_types, backends, features)| Declaration {
            name: String::new(),
            worker_type: "x".parse().unwrap(),
            availability,
            formats: formats.into_iter().collect(),
            architectures,
            tensor_types,
            backends,
            features: features.into_iter().collect(),
        },
    );
    collection::vec(one, 0..6).prop_map(|mut all| {
        for (number, engine) in all.iter_mut().enumerate() {
            engine.name = format!("e{number}");
        }
        all
    })
}

fn any_needs() -> impl Strategy<Value = Needs> {
    (
        prop_oneof![Just(Format::Gguf), Just(Format::Safetensors)],
        "[a-d]",
        subsequence(vec!["a", "b", "d"], 0..=2),
        prop_oneof![Just(Backend::Cpu), Just(Backend::Cuda)],
        subsequence(FEATURES.to_vec(), 0..=2),
        any::<bool>(),
    )
        .prop_map(
            |(format, architecture, types, backend, features, not_built_in)| Needs {
                format,
                architecture,
                tensor_types: types.into_iter().map(str::to_owned).collect(),
                backend,
                features: features.into_iter().collect(),
                not_built_in: not_built_in.then(|| "something".to_owned()),
            },
        )
}

proptest! {
    #[test]
    fn what_is_chosen_can_run_the_model_and_nothing_that_can_comes_before(
        needs in any_needs(), engines in declarations()
    ) {
        let able: Vec<&Declaration> =
            engines.iter().filter(|engine| needs.gaps(engine).is_empty()).collect();
        match choose(&needs, &engines, None) {
            Ok(choice) => {
                prop_assert!(needs.gaps(choice.engine).is_empty());
                prop_assert!(able.iter().all(|other| rank(choice.engine) <= rank(other)));
                let agreed = !matches!(
                    choice.engine.availability, Availability::Package { agreed: false, .. });
                prop_assert!(agreed, "nothing is installed without agreement");
                prop_assert_eq!(choice.verdicts.len(), engines.len());
                let chosen = choice.verdicts.iter().filter(|(_, v)| *v == Verdict::Chosen);
                prop_assert_eq!(chosen.count(), 1);
            }
            Err(error) if error.code == Code::PackageNotApproved => {
                prop_assert!(able.iter().all(|engine| rank(engine) == 3) && !able.is_empty());
                prop_assert!(error.hint.is_some());
            }
            Err(error) => {
                prop_assert!(able.is_empty());
                prop_assert!(error.hint.is_some());
            }
        }
    }

    #[test]
    fn a_further_engine_that_comes_later_changes_no_choice(
        needs in any_needs(), engines in declarations()
    ) {
        if let Ok(choice) = choose(&needs, &engines, None) {
            let mut more = engines.clone();
            more.push(engine("later", package("p", false)));
            let again = choose(&needs, &more, None).unwrap();
            prop_assert_eq!(&again.engine.name, &choice.engine.name);
        }
    }

    #[test]
    fn a_named_engine_is_chosen_or_refused(needs in any_needs(), engines in declarations(), n in 0usize..6) {
        let name = format!("e{n}");
        if let Ok(choice) = choose(&needs, &engines, Some(&name)) {
            prop_assert_eq!(&choice.engine.name, &name);
        }
    }
}
