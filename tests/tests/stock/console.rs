//! `console`.

use basalt_tests::compat::{Rows, Terminal};
use basalt_tests::wait;

use super::{Bed, SOON};

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("console: attach, type, detach", || attach(bed));
    rows.row("console: log", || log(bed));
}

/// A terminal that is attached; none when it is refused.
fn attached(bed: &Bed) -> Option<Terminal> {
    let mut terminal = Terminal::start(&bed.command(&["console", "c1"]), 80, 24).unwrap();
    let hint = if bed.ours() { "Attached" } else { "To detach from the console" };
    let attached = wait::until("it is attached, or refused", SOON, || {
        let ended = terminal.ended().is_some();
        Ok(if terminal.shown().contains(hint) { Some(true) } else { ended.then_some(false) })
    });
    attached.unwrap().then_some(terminal)
}

fn attach(bed: &Bed) {
    let mut terminal = attached(bed).unwrap();
    terminal.type_in("\r").unwrap();
    terminal.expect("c1 login:").unwrap();
    // It takes what is typed: a name, and asks again, for this guest has no passwords.
    terminal.type_in("somebody\r").unwrap();
    terminal.expect("somebody").unwrap();
    terminal.expect("c1 login:").unwrap();
    // The console is one: a second user is told so.
    let refused = bed.refused(&["console", "c1"]);
    assert!(!refused.is_empty());
    detach(&mut terminal);
    // And it is free again, once its home has heard that the first one is gone.
    let mut terminal = wait::until("the console is free again", SOON, || Ok(attached(bed))).unwrap();
    detach(&mut terminal);
}

/// Types Ctrl-A and q one by one, as fingers do: the stock clients look at the first byte of what they read.
fn detach(terminal: &mut Terminal) {
    let mut keys = ["\x01", "q"].into_iter().cycle();
    let ended = wait::until("it detaches", SOON, || {
        if let Some(status) = terminal.ended() {
            return Ok(Some(status));
        }
        terminal.type_in(keys.next().unwrap())?;
        Ok(None)
    });
    assert!(ended.unwrap().success());
}

fn log(bed: &Bed) {
    bed.run(&["exec", "c1", "--", "sh", "-c", "echo for the record > /dev/console"]);
    // The engine writes it down when it comes to it.
    wait::until("the log has it", SOON, || {
        let shown = bed.tried(&["console", "c1", "--show-log"])?;
        anyhow::ensure!(shown.contains("for the record"), "{shown}");
        Ok(Some(()))
    })
    .unwrap();
}
