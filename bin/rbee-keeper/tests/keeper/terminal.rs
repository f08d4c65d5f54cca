//! The keeper on a terminal.

use std::{fs::File, os::fd::OwnedFd, path::PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::{process::Command, sync::mpsc};
use worker_contract::InferInput;

use crate::fake::{
    FakeQueen, Finished, KEEPER, LIMIT, Then, end, finish, isolated, response, run, started, token,
};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A terminal, of which the keeper gets one end and the test the other.
struct Terminal {
    keyboard: File,
    path: PathBuf,
    /// What the keeper prints, and the echo of what is typed.
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    fn open() -> Self {
        let end: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let path = ptsname(&end, Vec::new()).unwrap();
        let reader = end.try_clone().unwrap();
        let (sender, output) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut part = [0; 1024];
            // Ends with an error when the other end is closed.
            while let Ok(n @ 1..) = rustix::io::read(&reader, &mut part) {
                if sender.send(part[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keyboard: end.into(),
            path: path.to_str().unwrap().into(),
            output,
            shown: String::new(),
        }
    }

    /// Returns the end that a process gets.
    fn device(&self) -> File {
        let mut options = File::options();
        options.read(true).write(true).open(&self.path).unwrap()
    }

    /// Returns a keeper command that has this terminal as its controlling terminal, and as
    /// standard input, output and error.
    fn keeper(&self, queen: &FakeQueen, arguments: &[&str]) -> Command {
        let mut command = isolated("/usr/bin/setsid");
        command
            .args(["--ctty", KEEPER])
            .args(arguments)
            .env("RBEE_QUEEN_URL", &queen.url)
            .stdin(self.device())
            .stdout(self.device())
            .stderr(self.device());
        command
    }

    fn press(&mut self, keys: &str) {
        rustix::io::write(&self.keyboard, keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows `text`.
    async fn shows(&mut self, text: &str) {
        let wait = async {
            while !self.shown.contains(text) {
                self.receive().await.expect("the keeper has exited");
            }
        };
        let shown = tokio::time::timeout(LIMIT, wait).await;
        assert!(shown.is_ok(), "not shown: {text:?} in {:?}", self.shown);
    }

    async fn receive(&mut self) -> Option<()> {
        let part = self.output.recv().await?;
        // The terminal prints a line feed as carriage return and line feed.
        self.shown += &String::from_utf8(part).unwrap().replace("\r\n", "\n");
        Some(())
    }

    /// Waits until every process has closed the terminal; returns all that it has shown.
    async fn closed(mut self) -> String {
        let rest = async { while self.receive().await.is_some() {} };
        tokio::time::timeout(LIMIT, rest).await.unwrap();
        self.shown
    }
}

const ASK: &str = "keeper: type the prompt, then press Ctrl+D on an empty line\n";

#[tokio::test]
async fn prompt_is_typed_and_ends_with_ctrl_d() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let mut terminal = Terminal::open();
    let child = terminal.keeper(&queen, &["infer", "-"]).spawn().unwrap();
    terminal.shows(ASK).await;
    terminal.press("Hi\nbee\n");
    terminal.press(CTRL_D);
    assert_eq!(finish(child).await, Finished::new(0, "", ""));
    let shown = terminal.closed().await;
    assert!(shown.contains("An old silent pond\n2 tokens"), "{shown}");
    let calls = queen.seen.calls.lock().unwrap();
    let InferInput::Messages(messages) = &calls[0].request.input else {
        panic!("not a chat");
    };
    assert_eq!(messages[0].content, "Hi\nbee");
}

#[tokio::test]
async fn ctrl_d_without_a_prompt_and_no_prompt_are_usage_errors() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let hint = "\n\nhint: pass a prompt, for example `rbee-keeper infer \"Write a haiku\"`, or \
                pipe one in\n";
    let mut terminal = Terminal::open();
    let child = terminal.keeper(&queen, &["infer", "-"]).spawn().unwrap();
    terminal.shows(ASK).await;
    terminal.press(CTRL_D);
    assert_eq!(finish(child).await, Finished::new(2, "", ""));
    assert_eq!(
        terminal.closed().await,
        format!("{ASK}error: the prompt is empty{hint}")
    );

    let terminal = Terminal::open();
    let command = terminal.keeper(&queen, &["infer"]);
    assert_eq!(run(command).await, Finished::new(2, "", ""));
    assert_eq!(terminal.closed().await, format!("error: no prompt{hint}"));
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn ctrl_c_cancels_the_answer_and_exits_with_130() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let mut terminal = Terminal::open();
    let child = terminal.keeper(&queen, &["infer", "Hi"]).spawn().unwrap();
    terminal.shows("An old").await;
    terminal.press(CTRL_C);
    assert_eq!(finish(child).await, Finished::new(130, "", ""));
    assert_eq!(terminal.closed().await, "An old^C\n");
    queen.all_streams_closed().await;
    let calls = queen.seen.calls.lock().unwrap();
    let id = calls[0].request.request_id.to_string();
    assert_eq!(*queen.seen.cancelled.lock().unwrap(), [id]);
}

#[tokio::test]
async fn ctrl_c_at_the_prompt_exits_with_130() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let mut terminal = Terminal::open();
    let child = terminal.keeper(&queen, &["infer", "-"]).spawn().unwrap();
    terminal.shows(ASK).await;
    terminal.press(CTRL_C);
    assert_eq!(finish(child).await, Finished::new(130, "", ""));
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_a_capable_terminal_gets_colors() {
    let queen = FakeQueen::start(vec![started(), token("x"), end()], Then::Close).await;
    let footer = "2 tokens · 50.0 tokens/s · seed 7";
    let dim = format!("x\n\u{1b}[2m{footer}\u{1b}[0m\n");
    let plain = format!("x\n{footer}\n");
    for (variable, expected) in [
        (("TERM", "xterm"), &dim),
        (("TERM", "dumb"), &plain),
        (("NO_COLOR", "1"), &plain),
        (("CLICOLOR", "0"), &plain),
        (("FORCE_COLOR", "0"), &plain),
    ] {
        let terminal = Terminal::open();
        let mut command = terminal.keeper(&queen, &["infer", "Hi"]);
        command.env("TERM", "xterm").env(variable.0, variable.1);
        assert_eq!(run(command).await, Finished::new(0, "", ""));
        assert_eq!(&terminal.closed().await, expected, "{variable:?}");
    }
}

#[tokio::test]
async fn a_file_gets_no_colors_unless_forced() {
    let queen = FakeQueen::start(vec![started(), token("x"), end()], Then::Close).await;
    let footer = "2 tokens · 50.0 tokens/s · seed 7";
    for (variable, expected) in [
        ("CLICOLOR", format!("{footer}\n")),
        ("FORCE_COLOR", format!("\u{1b}[2m{footer}\u{1b}[0m\n")),
        ("CLICOLOR_FORCE", format!("\u{1b}[2m{footer}\u{1b}[0m\n")),
    ] {
        let mut command = queen.keeper(&["infer", "Hi"]);
        command.env("TERM", "xterm").env(variable, "1");
        assert_eq!(run(command).await, Finished::new(0, "x\n", expected));
    }
}

#[tokio::test]
async fn control_characters_of_the_completion_are_escaped_on_a_terminal_only() {
    let hostile = "a\u{1b}[2J\u{7}b\r\n\tc";
    let script = vec![started(), token(hostile), end()];
    let queen = FakeQueen::start(script, Then::Close).await;
    let footer = "2 tokens · 50.0 tokens/s · seed 7\n";
    let terminal = Terminal::open();
    let mut command = queen.keeper(&["infer", "Hi"]);
    command.stdout(terminal.device());
    assert_eq!(run(command).await, Finished::new(0, "", footer));
    let shown = terminal.closed().await;
    assert_eq!(shown, "a\\u{1b}[2J\\u{7}b\\r\n\tc\n");
    assert_eq!(
        run(queen.keeper(&["infer", "Hi"])).await,
        Finished::new(0, format!("{hostile}\n"), footer)
    );
}
