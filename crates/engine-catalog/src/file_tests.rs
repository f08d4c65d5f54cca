use std::os::unix::fs::PermissionsExt as _;

use diagnostics::Code;
use input_validation::DeviceId;

use super::*;

fn described(text: &str) -> Result<Engine, Diagnostic> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    fs::write(&path, text).unwrap();
    read(&path, &"mine".parse().unwrap())
}

const COMMAND: &str = r#"
kind = "llama-cpp"
command = ["/bin/sh", "-m", "{model}", "--port={port}", "-c", "{context}"]
"#;

#[test]
fn a_command_is_started_by_the_adapter() {
    let engine = described(&format!(
        "{COMMAND}\narchitectures = [\"mamba\"]\nbackends = [\"cpu\", \"cuda\"]\nfeatures = \
         [\"vision\"]\n[environment]\nGGML_LOG = \"1\""
    ))
    .unwrap();
    let declaration = &engine.declaration;
    assert_eq!(declaration.formats, [Format::Gguf].into());
    assert!(declaration.architectures.includes("mamba"));
    assert!(!declaration.architectures.includes("llama"));
    assert!(declaration.tensor_types.includes("IQ4_XS"));
    assert_eq!(declaration.features, [Feature::Vision].into());

    let launch = engine.launch(DeviceId::Cpu(0), Backend::Cpu).unwrap();
    let expected = [
        "--engine",
        "llama-cpp",
        "--",
        "/bin/sh",
        "-m",
        "{model}",
        "--port={port}",
        "-c",
        "{context}",
    ];
    assert_eq!(launch.arguments, expected);
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let no_gpu = variable("CUDA_VISIBLE_DEVICES", "");
    assert_eq!(launch.environment, [no_gpu, variable("GGML_LOG", "1")]);
    let launch = engine.launch(DeviceId::Gpu(1), Backend::Cuda).unwrap();
    let one_gpu = variable("CUDA_VISIBLE_DEVICES", "1");
    assert!(launch.environment.contains(&one_gpu));
}

#[test]
fn an_engine_that_runs_already_is_attached_to() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let key = key.path().display();
    let engine = described(&format!(
        "kind = \"openai\"\nattach = \"https://box:8000/v1\"\nmodel = \"big\"\napi_key_file = \
         \"{key}\""
    ))
    .unwrap();
    assert_eq!(engine.declaration.availability, Availability::Attached);
    let launch = engine.launch(DeviceId::Cpu(0), Backend::Cpu).unwrap();
    let key = key.to_string();
    let expected = [
        "--engine",
        "openai",
        "--engine-model",
        "big",
        "--attach",
        "https://box:8000/v1",
        "--engine-key-file",
        &key,
    ];
    assert_eq!(launch.arguments, expected);
    assert!(launch.environment.is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    let start = "kind = \"llama-cpp\"\n";
    for (text, problem) in [
        ("", "missing field `kind`"),
        ("kind = \"gpt\"", "line 1: unknown variant `gpt`"),
        ("kind = ", "line 1"),
        (
            &format!("{COMMAND}colour = 1"),
            "line 4: unknown field `colour`",
        ),
        (start, "neither `command` nor `attach`"),
        (&format!("{COMMAND}attach = \"http://a\""), "both"),
        (&format!("{start}command = []"), "`command` is empty"),
        (&format!("{start}command = [\"sh\"]"), "absolute path"),
        (
            &format!("{start}command = [\"/nowhere\"]"),
            "/nowhere is not an executable file",
        ),
        (
            &format!("{start}command = [\"/etc\"]"),
            "not an executable file",
        ),
        (
            &format!("{start}command = [\"/bin/sh\", \"{{model}}\"]"),
            "{port}",
        ),
        (
            &format!("{start}command = [\"/bin/sh\", \"{{port}}\"]"),
            "{model}",
        ),
        (
            &format!("{start}command = [\"/bin/sh\", \"{{port}}{{modle}}\"]"),
            "unknown placeholder {modle}",
        ),
        (
            &format!("{start}attach = \"ftp://a\""),
            "`attach` must be a URL",
        ),
        (
            &format!("{start}attach = \"http://me:secret@a\""),
            "`attach` must be a URL",
        ),
        (
            &format!("{start}attach = \"http://a\"\napi_key_file = \"key\""),
            "`api_key_file` must be the absolute path",
        ),
        (
            &format!("{COMMAND}api_key_file = \"/key\""),
            "for `attach` only",
        ),
        (&format!("{COMMAND}formats = []"), "must not be empty"),
        (&format!("{COMMAND}backends = [\"tpu\"]"), "line 4"),
        (
            &format!("{COMMAND}[environment]\nRBEE_HOME = \"x\""),
            "set by the hive",
        ),
        (
            &format!("{COMMAND}[environment]\n\"A=B\" = \"x\""),
            "not the name of a variable",
        ),
    ] {
        let error = described(text).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid, "{text}");
        assert!(error.message.contains(problem), "{text}: {error}");
        assert!(error.message.contains("mine.toml"), "{error}");
        assert!(error.hint.is_some());
    }
    let long = "#".repeat(70_000);
    assert!(described(&long).unwrap_err().message.contains("more than"));
}

#[test]
fn a_description_that_everybody_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    fs::write(&path, COMMAND).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = read(&path, &"mine".parse().unwrap()).unwrap_err();
    assert_eq!(error.code, Code::ConfigInvalid);
    assert!(error.hint.unwrap().contains("chmod o-w"));
}

#[test]
fn what_computes_parts_of_models_is_started_with_a_port_and_serves_none() {
    let engine = described(
        "kind = \"llama-cpp-rpc\"\ncommand = [\"/bin/sh\", \"-p\", \"{port}\", \"-t{threads}\"]",
    )
    .unwrap();
    assert_eq!(engine.declaration.formats, [].into());
    assert_eq!(engine.entry().kind.as_deref(), Some("llama-cpp-rpc"));
    assert_eq!(engine.launch(DeviceId::Cpu(0), Backend::Cpu), None);
    let launch = engine.launch_part(DeviceId::Cpu(0), Backend::Cpu, 5001, 3);
    let launch = launch.unwrap();
    assert_eq!(launch.command, ["/bin/sh", "-p", "5001", "-t3"]);
    let no_gpu = ("CUDA_VISIBLE_DEVICES".to_owned(), String::new());
    assert_eq!(launch.environment, [no_gpu]);
    let worker = described(COMMAND).unwrap();
    assert_eq!(
        worker.launch_part(DeviceId::Cpu(0), Backend::Cpu, 1, 1),
        None
    );
    for (line, expected) in [
        (
            "attach = \"http://127.0.0.1:1\"",
            "are for engines that serve models",
        ),
        (
            "command = [\"/bin/sh\"]",
            "must contain the placeholder {port}",
        ),
        (
            "command = [\"/bin/sh\", \"{port}\"]\nformats = [\"gguf\"]",
            "are for engines that serve models",
        ),
    ] {
        let error = described(&format!("kind = \"llama-cpp-rpc\"\n{line}")).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
    }
}
