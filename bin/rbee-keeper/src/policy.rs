use std::path::Path;

use diagnostics::{Diagnostic, Narration};
use queen_contract::PolicyTestCall;
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::{
    errors,
    failure::Failure,
    policy_cli::PolicyCommand,
    render::{Screen, policy as text},
    target::Target,
};

/// Largest script that is sent to the queen, which refuses those above its own limit.
const SCRIPT_LIMIT: u64 = 1 << 20;

/// Runs `rbee-keeper policy`.
pub(crate) async fn run(
    command: PolicyCommand,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let args = match command {
        PolicyCommand::Show => {
            let status = target.running().await?.policy().await?;
            return screen.document(&status, || text::status(&status)).await;
        }
        PolicyCommand::Test(args) => args,
    };
    let script = match &args.file {
        Some(file) => Some(read(file).await?),
        None => None,
    };
    let call = PolicyTestCall {
        script,
        model: args.model,
        node: args.node,
        backend: args.backend,
        priority: args.priority,
        prompt_bytes: args.prompt_bytes,
    };
    let queen = target.running().await?;
    let test = queen.test_policy(&call).await?;
    screen.document(&test, || text::test(&test)).await?;
    let problem = match call.script {
        Some(_) => None,
        None => queen.policy().await?.problem,
    };
    if let Some(problem) = &problem {
        let message = format!("what is in the file of the policy is not in use: {problem}");
        let warning = Narration::warn("queen", "policy", message);
        screen.narrate(&warning).await?;
    }
    if test.failed || problem.is_some() {
        return Err(Failure::Reported);
    }
    Ok(())
}

async fn read(file: &Path) -> Result<String, Diagnostic> {
    let mut text = String::new();
    let read = async {
        let opened = File::open(file).await?;
        opened.take(SCRIPT_LIMIT).read_to_string(&mut text).await
    };
    match read.await {
        Ok(_) => Ok(text),
        Err(error) => Err(errors::unreadable_policy(file, &error)),
    }
}
