use super::*;

fn listing(files: &[(&str, u64)]) -> Listing {
    let file = |(path, size): &(&str, u64)| {
        let path = (*path).to_owned();
        let file = RepoFile {
            path: path.clone(),
            size: *size,
            sha256: None,
        };
        (path, file)
    };
    Listing {
        files: files.iter().map(file).collect(),
        irregular: vec!["link.gguf".to_owned()],
    }
}

/// Returns what is selected, as in the canonical reference, or the error.
fn select(
    files: &[(&str, u64)],
    named: Option<&str>,
    memory: Option<u64>,
) -> Result<String, NotSelected> {
    let listing = listing(files);
    let candidates = Candidates::of(&listing);
    choose(&listing, &candidates, named, memory).map(|chosen| match chosen {
        Candidate::Gguf(model) => candidates.selection_of(&model),
        Candidate::Safetensors(_) => SAFETENSORS.to_owned(),
    })
}

const QUANTS: &[(&str, u64)] = &[
    ("README.md", 1),
    ("m-BF16.gguf", 160),
    ("m-IQ4_XS.gguf", 42),
    ("m-Q3_K_M.gguf", 38),
    ("m-Q2_K.gguf", 30),
    ("m-Q4_K_M.gguf", 48),
    ("m-Q4_0.gguf", 45),
    ("m-Q8_0.gguf", 85),
    ("m-UD-Q4_K_XL.gguf", 50),
    ("mmproj-F16.gguf", 9),
    ("m-imatrix.gguf", 5),
];

#[test]
fn the_preferred_type_that_fits_is_selected() {
    for (memory, selected) in [
        (None, "Q4_K_M"),
        (Some(1000), "Q4_K_M"),
        (Some(48), "Q4_K_M"),
        (Some(47), "Q4_0"),
        (Some(44), "Q3_K_M"),
        (Some(31), "Q2_K"),
        (Some(1), "Q4_K_M"),
    ] {
        assert_eq!(
            select(QUANTS, None, memory).unwrap(),
            selected,
            "{memory:?}"
        );
    }
    let order = ["Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0", "Q8_0", "F16", "BF16"];
    let files: Vec<_> = order
        .iter()
        .map(|label| format!("m-{label}.gguf"))
        .collect();
    for first in 0..order.len() {
        let rest: Vec<_> = files[first..]
            .iter()
            .map(|path| (path.as_str(), 1))
            .collect();
        assert_eq!(select(&rest, None, None).unwrap(), order[first]);
    }
}

#[test]
fn a_named_type_or_file_is_selected() {
    for (named, selected) in [
        ("Q8_0", "Q8_0"),
        ("q4_k_m", "Q4_K_M"),
        ("m-Q4_K_M.gguf", "Q4_K_M"),
        ("IQ4_XS", "IQ4_XS"),
        ("Q4_K_XL", "UD-Q4_K_XL"),
        ("ud-q4_k_xl", "UD-Q4_K_XL"),
        ("bf16", "BF16"),
    ] {
        assert_eq!(
            select(QUANTS, Some(named), Some(1)).unwrap(),
            selected,
            "{named}"
        );
    }
    for named in [
        "Q4_K",
        "Q5_K_M",
        "F16",
        "Q4_k_m.gguf",
        "README.md",
        "safetensors",
    ] {
        let error = select(QUANTS, Some(named), None).unwrap_err();
        assert_eq!(error, NotSelected::NoSuch(named.to_owned()));
    }
    assert_eq!(
        select(QUANTS, Some("mmproj-F16.gguf"), None).unwrap_err(),
        NotSelected::Projector("mmproj-F16.gguf".to_owned())
    );
    assert_eq!(
        select(QUANTS, Some("link.gguf"), None).unwrap_err(),
        NotSelected::Irregular("link.gguf".to_owned())
    );
}

#[test]
fn several_models_of_one_type_are_ambiguous() {
    let files = &[
        ("a/x-Q4_K_M.gguf", 1),
        ("b/y-Q4_K_M.gguf", 1),
        ("y-Q8_0.gguf", 2),
    ];
    let both = NotSelected::Ambiguous(vec!["a/x-Q4_K_M.gguf".into(), "b/y-Q4_K_M.gguf".into()]);
    assert_eq!(select(files, None, None).unwrap_err(), both);
    assert_eq!(select(files, Some("Q4_K_M"), None).unwrap_err(), both);
    assert_eq!(select(files, Some("Q8_0"), None).unwrap(), "Q8_0");
    let path = "b/y-Q4_K_M.gguf";
    assert_eq!(select(files, Some(path), None).unwrap(), path);
    let unlabelled = &[("a.gguf", 1), ("b.gguf", 1)];
    assert!(matches!(
        select(unlabelled, None, None).unwrap_err(),
        NotSelected::Ambiguous(_)
    ));
    assert_eq!(select(&unlabelled[..1], None, None).unwrap(), "a.gguf");
}

#[test]
fn parts_are_one_model() {
    let files = &[
        ("Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", 30),
        ("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", 20),
        ("m-Q8_0-00001-of-00003.gguf", 1),
        ("m-Q8_0-00003-of-00003.gguf", 1),
    ];
    let listing = listing(files);
    let candidates = Candidates::of(&listing);
    for named in [None, Some("Q4_K_M"), Some(files[0].0), Some(files[1].0)] {
        let chosen = choose(&listing, &candidates, named, Some(50)).unwrap();
        let Candidate::Gguf(model) = chosen else {
            panic!("{chosen:?}");
        };
        let paths: Vec<_> = model.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, [files[1].0, files[0].0]);
        assert_eq!(model.bytes(), 50);
        assert_eq!(candidates.selection_of(&model), "Q4_K_M");
    }
    assert_eq!(
        choose(&listing, &candidates, Some("Q8_0"), None).unwrap_err(),
        NotSelected::Incomplete {
            path: "m-Q8_0-00001-of-00003.gguf".into(),
            missing: "m-Q8_0-00002-of-00003.gguf".into(),
        }
    );
}

#[test]
fn safetensors_follow_gguf() {
    let safetensors = &[
        ("config.json", 1),
        ("tokenizer.json", 1),
        ("model.safetensors", 50),
        ("pytorch_model.bin", 50),
        ("onnx/model.onnx", 50),
    ];
    assert_eq!(select(safetensors, None, None).unwrap(), SAFETENSORS);
    for named in ["safetensors", "model.safetensors"] {
        assert_eq!(select(safetensors, Some(named), None).unwrap(), SAFETENSORS);
    }
    let both = [safetensors, &[("m-Q8_0.gguf", 9)][..]].concat();
    assert_eq!(select(&both, None, None).unwrap(), "Q8_0");
    assert_eq!(
        select(&both, Some("safetensors"), None).unwrap(),
        SAFETENSORS
    );
    // The engine does not run the GGUF file.
    let both = [safetensors, &[("m-IQ2_M.gguf", 9)][..]].concat();
    assert_eq!(select(&both, None, None).unwrap(), SAFETENSORS);

    let sharded = listing(&[(INDEX, 1), ("model.safetensors", 1)]);
    assert!(matches!(
        Candidates::of(&sharded).safetensors,
        Some(SafetensorsModel::Sharded(_))
    ));
}

#[test]
fn companions_are_those_that_the_engine_reads() {
    let listing = listing(&[
        ("config.json", 1),
        ("1_Pooling/config.json", 1),
        ("chat_template.jinja", 1),
        ("image.png", 1),
        ("other/config.json", 1),
        ("pytorch_model.bin", 1),
        ("training_args.bin", 1),
    ]);
    let companions = listing.companions();
    let names: Vec<_> = companions.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        names,
        [
            "config.json",
            "1_Pooling/config.json",
            "chat_template.jinja"
        ]
    );
}

#[test]
fn other_formats_are_no_weights() {
    for files in [&[("pytorch_model.bin", 1)][..], &[("README.md", 1)], &[]] {
        assert_eq!(
            select(files, None, None).unwrap_err(),
            NotSelected::NoWeights
        );
    }
    let candidates = Candidates::of(&listing(QUANTS));
    assert_eq!(candidates.projectors, ["mmproj-F16.gguf"]);
    let runnable: Vec<_> = candidates
        .runnable()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        runnable,
        [
            "BF16",
            "Q2_K",
            "Q3_K_M",
            "Q4_0",
            "Q4_K_M",
            "Q8_0",
            "UD-Q4_K_XL"
        ]
    );
}
