//! The man pages: storectl(1) and one page for each of its verbs, storedd(8), storedd.toml(5).

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use storedd::config::{Config, Effect, OPTIONS, SECTIONS};

const VERSION: &str = concat!("storedd ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "storedd mail store";
/// Ends the help of a verb; a page says the same under SEE ALSO.
const SEE_HELP: &str = "Exit codes and more: storectl --help";

/// Every page, by file name.
pub fn all() -> Vec<(String, String)> {
    let mut ctl = storectl::definition().disable_help_subcommand(true);
    ctl.build();
    let mut daemon = storedd::cli::Cli::command();
    daemon.build();
    let verbs: Vec<Command> = ctl.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let mut pages: Vec<_> = verbs.iter().map(|v| (format!("storectl-{}.1", v.get_name()), verb(v))).collect();
    pages.push(("storectl.1".to_owned(), overview(&ctl, &verbs)));
    pages.push(("storedd.8".to_owned(), daemon_page(&daemon)));
    pages.push(("storedd.toml.5".to_owned(), options()));
    pages
}

/// storectl(1).
fn overview(ctl: &Command, verbs: &[Command]) -> String {
    let man = page(ctl, "STORECTL", "1");
    let mut text = head(&man) + &part(|out| man.render_options_section(out));
    text += &sh("COMMANDS");
    for verb in verbs {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text += &format!(".TP\n\\fBstorectl\\-{}\\fR(1)\n{}\n", escaped(verb.get_name()), line(&about));
    }
    text += &after(ctl);
    text += &sh("FILES");
    text += ".TP\n\\fI/run/storedd/control.sock\\fR\nThe control socket of a service.\n";
    text += ".TP\n\\fIDIR/control.sock\\fR\nThat of a daemon started with \\fB\\-\\-data\\-dir\\fR DIR.\n";
    text + &see(&["storedd(8)", "storedd.toml(5)"])
}

/// storectl-VERB(1), with everything that stands under the verb.
fn verb(verb: &Command) -> String {
    let verb = without_global(verb.clone());
    let name = verb.get_display_name().unwrap_or_default().to_owned();
    let man = page(&verb, &name.to_uppercase(), "1");
    let mut text = head(&man);
    if verb.get_arguments().any(|arg| !arg.is_hide_set()) {
        text += &part(|out| man.render_options_section(out));
    }
    for sub in verb.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let man = page(sub, "", "1");
        let title = sub.get_bin_name().unwrap_or_default().trim_start_matches("storectl ");
        text += &sh(title);
        text += &body(&part(|out| man.render_synopsis_section(out)));
        text += ".PP\n";
        text += &body(&part(|out| man.render_description_section(out)));
        if sub.get_arguments().any(|arg| !arg.is_hide_set()) {
            text += &body(&part(|out| man.render_options_section(out)));
        }
        text += &after(sub).replace(".SH ", ".SS ");
    }
    text + &after(&verb) + &see(&["storectl(1)", "storedd(8)"])
}

/// storedd(8).
fn daemon_page(daemon: &Command) -> String {
    let man = page(daemon, "STOREDD", "8");
    let mut text = head(&man) + &part(|out| man.render_options_section(out));
    for sub in daemon.get_subcommands() {
        let sub = without_global(sub.clone());
        let man = page(&sub, "", "8");
        text += &sh(sub.get_bin_name().unwrap_or_default().trim_start_matches("storedd "));
        text += &body(&part(|out| man.render_description_section(out)));
        if sub.get_arguments().any(|arg| !arg.is_hide_set()) {
            text += &body(&part(|out| man.render_options_section(out)));
        }
    }
    text += &sh("SIGNALS");
    text += ".TP\n\\fBSIGTERM\\fR, \\fBSIGINT\\fR\nFinish what is in flight, make a checkpoint, end with 0; a second one ends at once, and the next start replays the log.\n";
    text += ".TP\n\\fBSIGHUP\\fR\nRead the configuration again; a bad one changes nothing.\n";
    text += ".PP\n\\fBSIGKILL\\fR and a power cut lose nothing that was answered.\n";
    text += &after(daemon);
    text += &sh("FILES");
    for (file, what) in [
        ("/etc/storedd/storedd.toml", "The configuration."),
        ("/var/lib/storedd", "The store: log, database, messages."),
        ("/run/storedd/control.sock", "The control socket. Losing it loses no data."),
    ] {
        text += &format!(".TP\n\\fI{}\\fR\n{}\n", escaped(file), line(what));
    }
    text + &see(&["storectl(1)", "storedd.toml(5)", "systemctl(1)", "journalctl(1)"])
}

/// storedd.toml(5), from the table of options.
fn options() -> String {
    let mut text = format!(".TH STOREDD.TOML 5 \"\" \"{VERSION}\" \"{MANUAL}\"\n");
    text += ".SH NAME\nstoredd.toml \\- configuration of the storedd mail store\n";
    text += ".SH SYNOPSIS\n\\fI/etc/storedd/storedd.toml\\fR\n.SH DESCRIPTION\n";
    text += &line(
        "A TOML file of sections and options. Every option has a default; an unknown name is an error. Sizes are bytes or \
         texts such as \"64MiB\", times are seconds or texts such as \"60s\", \"100ms\", \"5min\".",
    );
    text += "\n.PP\nCheck it before it is used:\n.PP\n.RS 4\n\\fBstoredd \\-\\-check\\-config \\-\\-config\\fR \\fIFILE\\fR\n.RE\n";
    let defaults = Config::default_values();
    for (section, about) in SECTIONS {
        text += &sh(&format!("[{section}]"));
        text += &(line(about.trim()) + "\n");
        for option in OPTIONS.iter().filter(|option| option.section == *section) {
            let default = defaults.get(&format!("{section}.{}", option.key)).map_or("", String::as_str);
            text += &format!(".TP\n\\fB{}\\fR = {}\n", escaped(option.key), escaped(default));
            let limit = option.limit.text();
            let allowed = if limit.is_empty() { option.unit.to_owned() } else { format!("{}; {limit}", option.unit) };
            let effect = match option.effect {
                Effect::Reload => "a reload is enough",
                Effect::Restart => "read at the start",
            };
            text += &line(&format!("{} ({allowed}; {effect})", option.sentence));
            text.push('\n');
        }
    }
    text += &sh("[partition.NAME]");
    text += &line(
        "A directory tree for messages, best one for each disk. Without any such section there is one partition, primary; \
         otherwise there are exactly those that are named. The name is part of the store: give the partition another path \
         when its directory has moved, never another name.",
    );
    text += "\n.TP\n\\fBpath\\fR = \\(dqpartition/primary\\(dq\nThe root directory; a relative path counts from data_dir. (path; not empty; read at the start)\n";
    text += "\n.TP\n\\fBmessage_path\\fR\nA root of their own for the message files, on another disk; indexes and all else stay in path. It is chosen when the partition is made: to change it, add another partition and move the users there. (path; not empty; default path; read at the start)\n";
    text + &see(&["storedd(8)", "storectl(1)"])
}

fn page(command: &Command, title: &str, section: &str) -> Man {
    Man::new(command.clone()).title(title).section(section).date("").source(VERSION).manual(MANUAL)
}

fn head(man: &Man) -> String {
    part(|out| man.render_title(out))
        + &part(|out| man.render_name_section(out))
        + &part(|out| man.render_synopsis_section(out))
        + &part(|out| man.render_description_section(out))
}

/// The options that every verb takes are told once, in storectl(1).
fn without_global(command: Command) -> Command {
    let hide = |arg: clap::Arg| {
        let extra = arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        arg.hide(extra)
    };
    command.mut_args(hide).mut_subcommands(without_global)
}

/// What stands behind the help, as sections of its own: lines below `Examples:` and their like keep their form.
fn after(command: &Command) -> String {
    let help = command.get_after_long_help().or_else(|| command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut text = String::new();
    for paragraph in help.split("\n\n").filter(|paragraph| paragraph.trim() != SEE_HELP) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        text += &match (first.split_once(':'), rest) {
            (Some((title, rest)), "") if title.starts_with("Example") => sh("EXAMPLE") + &verbatim(rest.trim()),
            (Some((title, "")), rest) => sh(&title.to_uppercase()) + &verbatim(rest),
            _ => format!("{}{}\n", sh("NOTES"), line(&paragraph.replace('\n', " "))),
        };
    }
    text
}

fn see(pages: &[&str]) -> String {
    let pages = pages.iter().map(|page| match page.split_once('(') {
        Some((name, section)) => format!("\\fB{}\\fR({section}", escaped(name)),
        None => escaped(page),
    });
    format!(".SH \"SEE ALSO\"\n{}\n", pages.collect::<Vec<_>>().join(", "))
}

fn sh(title: &str) -> String {
    format!(".SH \"{}\"\n", escaped(title))
}

fn verbatim(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|text| line(text.strip_prefix("  ").unwrap_or(text))).collect();
    format!(".PP\n.nf\n.RS 4\n{}\n.RE\n.fi\n", lines.join("\n"))
}

/// A section without its heading, for one that stands under another.
fn body(section: &str) -> String {
    section.split_once('\n').filter(|(first, _)| first.starts_with(".SH")).map_or(section, |(_, rest)| rest).to_owned()
}

fn part(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).expect("a buffer takes everything");
    let text = String::from_utf8(out).expect("pages are text");
    // A string that each part would define anew, for a character that has a name.
    text.replace("\\*(Aq", "\\(aq")
        .lines()
        .filter(|line| !line.contains("Aq"))
        .map(|line| line.to_owned() + "\n")
        .collect()
}

/// A line of text: no request of the formatter, whatever it begins with.
fn line(text: &str) -> String {
    let text = escaped(text);
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('\'', "\\(aq").replace('`', "\\(ga")
}
