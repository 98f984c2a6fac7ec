//! Defaults, `config.toml`, variables and flags: which of them holds, what is refused, and `manent config`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::cli::{Home, parse, text};

/// What `config show` says of a setting, with this file, these variables and these flags.
fn shown(home: &Home, file: &str, variables: &[(&str, &str)], flags: &[&str], key: &str) -> Value {
    home.write_config(file);
    let mut command = home.command(&[&["config", "show", "--json"], flags].concat());
    command.env_remove("MANENT_STORE").env_remove("MANENT_CA_DIR");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let mut rows = lines.lines().map(|line| parse(line.as_bytes()));
    rows.find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} in {lines}"))
}

/// A switch, a value and a list, each set by every choice of layers.
#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let home = Home::new();
    // Key, variable; per layer: what is written, and what comes of it. The default comes last.
    let cases = [
        (
            ("max-age", "MANENT_MAX_AGE"),
            [("max-age = \"1h\"", "1h"), ("2h", "2h"), ("--max-age=3h", "3h")].map(|(w, v)| (w, json!(v))),
            Value::Null,
        ),
        (
            ("grace", "MANENT_GRACE"),
            [("grace = \"1s\"", "1s"), ("2s", "2s"), ("--grace=3s", "3s")].map(|(w, v)| (w, json!(v))),
            json!("5s"),
        ),
        (
            ("insecure", "MANENT_INSECURE"),
            [("insecure = true", true), ("no", false), ("-k", true)].map(|(w, v)| (w, json!(v))),
            json!(false),
        ),
        (
            ("ignore-host", "MANENT_IGNORE_HOST"),
            [
                ("ignore-host = [\"a\", \"b\"]", json!(["a", "b"])),
                ("c{1,2}\nd e", json!(["c{1,2}", "d e"])),
                ("--ignore-host=f", json!(["f"])),
            ],
            json!([]),
        ),
        (
            ("verbose", "MANENT_VERBOSE"),
            [("verbose = 1", json!(1)), ("0", json!(0)), ("-vvv", json!(3))],
            json!(0),
        ),
    ];
    for ((key, variable), [file, environment, flag], default) in cases {
        for layers in 0..8_u8 {
            let has = |layer: u8| layers & (1 << layer) != 0;
            let text = if has(0) { file.0 } else { "" };
            let variables = [(variable, environment.0)];
            let flags = [flag.0];
            let row =
                shown(&home, text, &variables[..usize::from(has(1))], &flags[..usize::from(has(2))], key);
            let (value, source) = match layers {
                4.. => (&flag.1, "flag"),
                2.. => (&environment.1, "environment"),
                1 => (&file.1, "file"),
                _ => (&default, "default"),
            };
            assert_eq!((&row["value"], &row["source"]), (value, &json!(source)), "{key} {layers:03b}");
            match source {
                "file" => assert_eq!((&row["file"], &row["line"]), (&json!(home.config()), &json!(1))),
                "environment" => assert_eq!(row["variable"], variable),
                _ => {}
            }
        }
    }
}

/// Whoever says `--port 0` does not want to hear of the `listen` in a file.
#[test]
fn what_excludes_each_other_does_so_across_layers() {
    let home = Home::new();
    let file = "listen = [\"127.0.0.1:1\"]\nno-record = true\n";
    assert_eq!(shown(&home, file, &[], &["-p", "9"], "listen")["source"], "default");
    assert_eq!(shown(&home, file, &[], &["-p", "9"], "port")["value"], "9");
    assert_eq!(shown(&home, file, &[("MANENT_PORT", "7")], &[], "listen")["source"], "default");
    assert_eq!(
        shown(&home, "port = 5", &[("MANENT_LISTEN", "1, 2")], &[], "listen")["value"],
        json!(["1", "2"])
    );
    assert_eq!(shown(&home, file, &[("MANENT_RECORD", "~m GET")], &[], "no-record")["value"], false);
    assert_eq!(
        shown(&home, file, &[("MANENT_NO_RECORD", "")], &["--record", "~m GET"], "record")["value"],
        "~m GET"
    );
    // Not within one.
    home.write_config("port = 5\n\nlisten = \"6\"\n");
    let told = home.refuses(&["config", "show"], 2, "error[E002]: ");
    let path = home.config();
    assert!(told.contains(&format!("port ({path}:1) cannot be used with listen ({path}:3)")), "{told}");
    home.refuses(&["config", "show", "-p", "1", "-l", "2"], 2, "cannot be used with");
}

/// An empty text, an empty list and `false` take back what a layer below has set; so does `--no-SWITCH`.
#[test]
fn a_layer_can_take_back_what_one_below_has_set() {
    let home = Home::new();
    let file = "insecure = true\nvia = \"http://proxy.test:1\"\nno-auto-passthrough = true\n";
    assert_eq!(shown(&home, file, &[], &["--no-insecure"], "insecure")["value"], false);
    assert_eq!(shown(&home, file, &[], &["--no-insecure", "-k"], "insecure")["value"], true);
    assert_eq!(shown(&home, file, &[], &["-k", "--no-insecure"], "insecure")["source"], "flag");
    assert_eq!(shown(&home, file, &[], &["--auto-passthrough"], "no-auto-passthrough")["value"], false);
    assert_eq!(shown(&home, file, &[("MANENT_INSECURE", "0")], &[], "insecure")["value"], false);
    assert_eq!(shown(&home, file, &[("MANENT_VIA", "")], &[], "via")["value"], Value::Null);
    assert_eq!(shown(&home, file, &[], &["--no-config"], "via")["value"], Value::Null);
    let row = shown(&home, "ignore-host = []\ngrace = \"\"", &[], &[], "grace");
    assert_eq!((&row["value"], &row["source"]), (&json!("5s"), &json!("file")));
}

#[test]
fn unknown_keys_are_refused_with_line_and_suggestion() {
    let home = Home::new();
    let path = home.config();
    for (file, line, key, hint) in [
        ("\nlisen = \"1\"", 2, "lisen", "did you mean `listen`?"),
        ("max_age = \"1h\"", 1, "max_age", "did you mean `max-age`?"),
        ("grace = \"1s\"\n[capture]\nport = 1", 2, "capture", "there are no sections"),
        ("config = \"x\"", 1, "config", "manent help capture   lists all keys"),
        ("xyzzy = 1", 1, "xyzzy", "manent help capture   lists all keys"),
    ] {
        home.write_config(file);
        let told =
            home.refuses(&["config", "show"], 2, &format!("error[E002]: {path}:{line}: unknown key `{key}`"));
        assert!(told.contains(hint) && told.contains("^^^"), "{told}");
    }
    // Of a key that nobody knows, nobody knows whether its value is a secret.
    home.write_config("proxy-aut = \"me:secret\"");
    let told = home.refuses(&["ls"], 2, "did you mean `proxy-auth`?");
    assert!(!told.contains("secret") && told.contains("1 | proxy-aut = …"), "{told}");
}

#[test]
fn wrong_values_are_refused_with_line_and_what_was_expected() {
    let home = Home::new();
    let path = home.config();
    for (line, expected) in [
        ("insecure = \"yes\"", "`insecure`: true or false was expected, not a text"),
        ("max-age = 3", "`max-age`: the unit must be one of ms, s, m, h, d"),
        ("max-age = true", "`max-age`: a text (TIME) was expected, not true or false"),
        ("max-age = [\"1h\"]", "`max-age`: a text (TIME) was expected, not a list"),
        ("max-age = 1.5", "not a fraction"),
        ("ignore-host = true", "a text (REGEX) or a list of them was expected, not true or false"),
        ("ignore-host = [\"a\", true]", "a list of texts (REGEX) was expected, not of true or false"),
        ("ignore-host = \"a(b\"", "unclosed group"),
        ("durability = \"none\"", "one of full, normal was expected"),
        ("port = 70000", "a port from 0 to 65535 was expected, such as 8080"),
        ("port = 99999999999999999999999999999999999999999", "a number that is too large"),
        ("verbose = 300", "a whole number from 0 to 255 was expected"),
        ("log = \"loud\"", "off, error, warn, info, debug or trace was expected"),
        ("compress = 99", "a level from 1 to 19 was expected, such as 3"),
        ("proxy-auth = 7.0", "`proxy-auth`: a text (USER:PASS|@FILE) was expected, not a fraction"),
        ("grace = 1s", "expected"),
        ("grace", "expected"),
    ] {
        home.write_config(&format!("# first\n{line}\n"));
        let told = home.refuses(&["ls"], 2, &format!("error[E002]: {path}:2: "));
        assert!(told.contains(expected), "{line}: {told}");
    }
    for (name, value, why) in [
        ("MANENT_MAX_AGE", "soon", "a time was expected, such as 10s"),
        ("MANENT_INSECURE", "maybe", "true or false was expected"),
        ("MANENT_COLOR", "blue", "one of auto, always, never was expected"),
        ("MANENT_VERBOSE", "very", "a whole number from 0 to 255"),
    ] {
        home.write_config("");
        let output = home.command(&["config", "show"]).env(name, value).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("error[E002]: {name} is {value:?}: {why}")), "{told}");
    }
    let json = home.command(&["config", "show", "--json"]).env("MANENT_GRACE", "x").output().unwrap();
    assert_eq!(parse(&json.stderr)["error"]["code"], "E002");
}

/// What a command line tells when all of it is known, a file tells where it stands, whichever command reads it.
#[test]
fn what_is_no_rule_filter_or_proxy_is_told_with_its_line() {
    let home = Home::new();
    let path = home.config();
    for (line, why, hint) in [
        (
            "block = \"/~u ads\"",
            "`block`: its form is FILTER, /FILTER/STATUS or /FILTER/kill; any sign may stand for the /",
            "manent help capture   tells the form of `block`; manent filter   the language of filters",
        ),
        (
            "block = [\"~u /a\", \"|~u /b|700\"]",
            "`block`: \"700\" is neither a status from 200 to 599 nor `kill`",
            "",
        ),
        ("block = \"status:4x\"", "`block`: in its filter, `4x` is no status: write 404, 4xx or 400-499", ""),
        ("delay = \"soon\"", "`delay`: ", ""),
        (
            "set-header = \"Authorization hunter2\"",
            "`set-header`: \"Authorization …\" is no header field",
            "",
        ),
        ("remove-header = \"Host\"", "`remove-header`: Host names the origin", ""),
        ("ws-drop = \"//nobody/x\"", "`ws-drop`: \"nobody\" is none of client, server, any", ""),
        ("record = \"~u /a &\"", "`record`: ", "manent filter   tells the language"),
        ("via = \"ftp://me:hunter2@proxy.test\"", "`via`: ", "manent help capture   tells the form of `via`"),
        (
            "proxy-auth = \"hunter2\"",
            "`proxy-auth`: ",
            "manent help capture   tells the form of `proxy-auth`",
        ),
        ("reverse = \"http://me:hunter2@api.test\"", "`reverse`: ", ""),
    ] {
        home.write_config(&format!("# first\n{line}\n"));
        for args in [&["ls"][..], &["-p", "0"], &["config", "show"]] {
            let told = home.refuses(args, 2, &format!("error[E002]: {path}:2: {why}"));
            assert!(told.contains("\n    2 | ") && told.contains(hint), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
    home.write_config("");
    for (name, value) in [("MANENT_BLOCK", "~u /a\n/x"), ("MANENT_RECORD", "~zz")] {
        let output = home.command(&["config", "show"]).env(name, value).output().unwrap();
        let told = text(&output.stderr);
        assert!(told.starts_with(&format!("error[E002]: {name} is ")), "{told}");
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let home = Home::new();
    home.refuses(&["ls", "--config", "/nowhere/c.toml"], 3, "error[E002]: there is no /nowhere/c.toml");
    let output = home.command(&["ls"]).env("MANENT_CONFIG", "/nowhere/c.toml").output().unwrap();
    assert!(text(&output.stderr).contains("error[E002]: there is no /nowhere/c.toml"));
    // The usual one need not be, and is not asked for if another is named.
    home.refuses(&["ls"], 3, "error[E407]");
    home.write_config("nonsense");
    let other = home.path("other.toml");
    std::fs::write(&other, "max-flows = 5\n").unwrap();
    let other = other.to_str().unwrap();
    let output = home.run(&["config", "show", "--config", other]);
    assert!(text(&output.stdout).contains(&format!("max-flows\t5\t{other}:1\n")), "{}", text(&output.stdout));
    home.refuses(&["ls", "--config", home.dir().to_str().unwrap()], 2, "error[E002]: cannot read");
    home.refuses(&["ls", "--config", other, "--no-config"], 2, "cannot be used with");
    // What helps to mend a broken file does not stumble over it.
    for args in
        [&["config", "path"][..], &["completions", "bash"], &["man"], &["--help"], &["help", "ls"], &["-V"]]
    {
        assert_eq!(home.run(args).status.code(), Some(0), "{args:?}");
    }
}

/// What is written is what holds anyway, also when every line of it is in force.
#[test]
fn init_writes_what_show_shows_as_defaults() {
    let home = Home::new();
    let all = |home: &Home| -> Vec<Value> {
        let mut command = home.command(&["config", "show", "--json"]);
        let output = command.env_remove("MANENT_STORE").env_remove("MANENT_CA_DIR").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| parse(line.as_bytes())).collect()
    };
    let before = all(&home);
    // `--json` is how they are asked for.
    let has = |row: &Value, source: &str| row["source"] == source || row["key"] == "json";
    assert!(before.len() > 40 && before.iter().all(|row| has(row, "default")), "{before:?}");
    let output = home.run(&["config", "init"]);
    assert_eq!(text(&output.stderr), format!("written: {}\n", home.config()));
    let mode = std::fs::metadata(home.config()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it may come to hold passwords");
    assert_eq!(all(&home), before);
    home.refuses(&["config", "init"], 2, "error[E703]");
    assert_eq!(home.run(&["config", "init", "--force"]).status.code(), Some(0));
    let file = std::fs::read_to_string(home.config()).unwrap();
    let setting =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).map(str::to_owned);
    let keys: Vec<_> = file.lines().filter_map(setting).filter(|line| !line.is_empty()).collect();
    let names: Vec<_> = keys.iter().map(|line| line.split_once(" = ").unwrap().0).collect();
    assert_eq!(names, before.iter().map(|row| row["key"].as_str().unwrap()).collect::<Vec<_>>());
    // `port` excludes `listen`, and has no default: without a value it sets nothing.
    home.write_config(&keys.join("\n"));
    for (row, old) in all(&home).iter().zip(&before) {
        assert_eq!((&row["key"], &row["value"]), (&old["key"], &old["value"]));
        assert!(has(row, "file"), "{row}");
    }
    let path = home.run(&["config", "path"]);
    assert_eq!((text(&path.stdout), text(&path.stderr)), (format!("{}\n", home.config()), String::new()));
}

#[test]
fn passwords_are_not_shown() {
    let home = Home::new();
    home.write_config("proxy-auth = \"me:s3cret\"\nvia = \"http://us:s3cret@proxy.test:3128\"\n");
    for args in [&["config", "show"][..], &["config", "show", "--json"]] {
        let output = home.run(args);
        let told = text(&output.stdout);
        assert!(!told.contains("s3cret") && told.contains("me:***"), "{told}");
        assert!(told.contains("http://***@proxy.test:3128"), "{told}");
    }
    home.write_config(
        "set-header = [\"Authorization: Bearer s3cret\"]\nws-inject = [\"//server/hello/s3cret\"]\n",
    );
    for args in [&["config", "show"][..], &["config", "show", "--json"]] {
        let told = text(&home.run(args).stdout);
        assert!(!told.contains("s3cret") && told.contains("Authorization: ***"), "{told}");
        assert!(told.contains("//server/hello/***"), "{told}");
    }
    // Without its closing quote it is no TOML, and nobody knows where it ends.
    home.write_config("proxy-auth = \"me:s3cret");
    let told = home.refuses(&["ls"], 2, "error[E002]: ");
    assert!(!told.contains("s3cret") && told.contains("1 | proxy-auth = …"), "{told}");
}

/// A path in a file is found from the file, wherever the command is started.
#[test]
fn paths_are_found_from_the_file() {
    let home = Home::new();
    let directory = home.dir().join("config/manent");
    let file = "ca-cert = \"ca.pem\"\nupstream-ca = [\"~/r.pem\", \"/x/r.pem\"]\ncert = \"a.test=c.pem\"\nproxy-auth = \"@who\"\n";
    let value = |key: &str| {
        // It is the file that is missing, and named as it is looked for.
        home.write_config(file);
        let output = home.command(&["config", "show", "--json"]).env("HOME", "/h").output().unwrap();
        assert!(
            text(&output.stderr).contains(&format!("{}/who", directory.display())),
            "{}",
            text(&output.stderr)
        );
        let rows = text(&output.stdout);
        rows.lines().map(|line| parse(line.as_bytes())).find(|row| row["key"] == key).unwrap()["value"]
            .clone()
    };
    assert_eq!(value("ca-cert"), json!(directory.join("ca.pem")));
    assert_eq!(value("upstream-ca"), json!(["/h/r.pem", "/x/r.pem"]));
    assert_eq!(value("cert"), json!([format!("a.test={}/c.pem", directory.display())]));
}

/// The one proxy's address is not that of `run`; and a flag of another command that happens to be called like a key is none.
#[test]
fn settings_reach_the_commands_that_they_concern() {
    let home = Home::with([crate::cli::flow("/a", b"a")]);
    home.write_config("listen = \"127.0.0.1:1\"\nreverse = \"http://a.test\"\nproxy-auth = \"@/nowhere\"\nmax-age = \"1s\"\n");
    assert_eq!(home.run(&["run", "--", "true"]).status.code(), Some(0));
    // prune has a --max-age as well: it is asked for, not set.
    home.refuses(&["prune", "--yes"], 2, "required");
    home.write_config("json = true");
    assert_eq!(parse(&home.run(&["ls"]).stdout)["mid"], 1);
    assert!(text(&home.run(&["ls", "--no-json"]).stdout).starts_with("1\t"));
    assert!(text(&home.command(&["ls"]).env("MANENT_JSON", "0").output().unwrap().stdout).starts_with("1\t"));
}

/// A listener that nothing guards is a matter of several settings.
#[test]
fn show_tells_what_no_single_setting_tells() {
    let home = Home::new();
    home.write_config("listen = \"0.0.0.0:0\"\n");
    let output = home.run(&["config", "show"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("listen\t0.0.0.0:0\t"));
    assert!(text(&output.stderr).contains("error[E102]: refusing to listen on 0.0.0.0:0"));
    home.write_config("ca-key = \"k.pem\"\n");
    home.refuses(&["config", "show"], 2, "--ca-key: it is the key of --ca-cert");
}

/// What the hint says is possible where no command can be run because of it.
#[test]
fn a_variable_that_cannot_be_read_is_to_be_unset_or_looked_up() {
    let home = Home::new();
    let output = home.command(&["config", "show"]).env("MANENT_PORT", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error[E002]: MANENT_PORT is \"x\": a port was expected, such as 8080\n  \
         hint: unset MANENT_PORT   does without it; manent help capture   tells its form\n"
    );
    let help = home.command(&["help", "capture"]).env("MANENT_PORT", "x").output().unwrap();
    assert!(help.status.success() && text(&help.stdout).contains("[env: MANENT_PORT]"), "{help:?}");
}

/// A variable with a slip in its name sets nothing, which nobody would notice.
#[test]
fn a_variable_that_is_probably_meant_is_told() {
    let home = Home::new();
    let told = |name: &str| text(&home.command(&["config", "show"]).env(name, "1h").output().unwrap().stderr);
    assert_eq!(
        told("MANENT_MAX_AGES"),
        "warning: MANENT_MAX_AGES is no setting; did you mean MANENT_MAX_AGE?\n"
    );
    for name in ["MANENT_SOMETHING_ELSE", "MANENT_MAX_AGE", "MANENT_PAGER"] {
        assert_eq!(told(name), "");
    }
}
