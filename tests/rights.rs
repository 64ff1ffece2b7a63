//! Rights (RFC 4314), what a user may see, and subscriptions that lead nowhere, through the built programs.

use crate::harness::TestStore;
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect()
}

// row 114: entries of all kinds, what they come to for a user, and what can be given
#[test]
fn what_a_user_may_do() {
    let store = TestStore::new();
    let _daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    store.ctl(&["mailbox", "create", "user/joe/Work"]).expect(0);
    let set = |who: &str, rights: &str| store.ctl(&["acl", "set", "user/joe/Work", who, rights]).expect(0);
    let my = |user: &str| store.ctl(&["acl", "my", "user/joe/Work", user]).expect(0).out;
    assert_eq!((my("joe"), my("ann")), ("lrswipkxtecda\n".to_owned(), "\n".to_owned()));
    set("anyone", "lr");
    set("ann", "rswc");
    set("-ann", "r");
    set("group:staff", "a");
    assert_eq!(my("ann"), "lswkxc\n");
    assert_eq!(my("anonymous"), "lr\n");
    // What an older letter stands for is what is set and taken away.
    let entry = |who: &str| store.json(&["acl", "get", "user/joe/Work"])["acl"][who].clone();
    assert_eq!(entry("ann"), "rswkx");
    set("ann", "-k");
    assert_eq!((entry("ann"), entry("-ann"), entry("group:staff")), (json!("rswx"), json!("r"), json!("a")));
    // Nobody locks the owner out.
    set("joe", "r");
    set("-joe", "lra");
    set("-anyone", "lr");
    assert_eq!(my("joe"), "lkxca\n");
    assert_eq!(
        store.json(&["acl", "my", "user/joe/Work", "joe"]),
        json!({"name": "user/joe/Work", "user": "joe", "rights": "lkxca"})
    );
    store.ctl(&["mailbox", "show", "user/joe/Work", "--as", "joe"]).expect(0);

    let rights = |who: &str| store.json(&["acl", "rights", "user/joe/Work", who]);
    let letters = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect::<String>();
    assert_eq!(
        (&rights("ann")["required"], letters(&rights("ann")["optional"])),
        (&json!(""), "lrswipkxtecdan".into())
    );
    assert_eq!(
        (&rights("joe")["required"], letters(&rights("joe")["optional"])),
        (&json!("lkxca"), "rswiptedn".into())
    );
    assert_eq!(rights("-joe")["required"], "");
    for (words, status) in [
        (["acl", "my", "user/joe/Work", "nobody"], 67),
        (["acl", "my", "user/joe/Work", "anyone"], 65),
        (["acl", "my", "user/joe/nope", "joe"], 68),
        (["acl", "rights", "user/joe/nope", "joe"], 68),
        (["acl", "rights", "user/joe/Work", ""], 65),
        (["acl", "rights", "user/joe/Work", "-"], 65),
        (["acl", "rights", "user/joe/Work", "a\u{7}"], 65),
    ] {
        store.ctl(&words).expect(status);
    }
}

// row 114: a user sees his own, what an entry lets him see, and nothing that one takes away; in order, each once
#[test]
fn what_a_user_may_see() {
    let store = TestStore::new();
    let daemon = store.start();
    let mut lines =
        "user add joe\nuser add ann\nuser add joey\nmailbox create shared/open\nmailbox create shared/closed\n\
        acl set shared/open anyone lr\nacl set shared/open ann lr\nacl set shared/open -joey l\n\
        mailbox create user/joe/Secret\nmailbox create user/joe/Shown\nacl set user/joe/Shown ann lrs\n\
        mailbox create user/joe/Blind\nacl set user/joe/Blind ann rs\nacl set user/joe/INBOX joe r\n"
            .to_owned();
    // More than one piece of each range.
    for n in 0..600 {
        lines += &format!("mailbox create shared/list/{n:03}\n");
        lines += &format!("acl set shared/list/{n:03} {} l\n", if n % 2 == 0 { "anyone" } else { "ann" });
    }
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    let sees = |user: &str, pattern: &str| store.json(&["mailbox", "list", "--as", user, pattern]);
    for _ in 0..2 {
        let ann = sees("ann", "*");
        let found = names(&ann);
        assert_eq!(found.len(), 600 + 3, "{found:?}");
        assert!(found.is_sorted() && found.contains(&"user/joe/Shown") && found.contains(&"shared/open"), "{found:?}");
        assert_eq!(names(&sees("ann", "user/*")), ["user/ann/INBOX", "user/joe/Shown"]);
        assert_eq!(names(&sees("ann", "user/joe/*")), ["user/joe/Shown"]);
        assert_eq!(names(&sees("ann", "user/a*")), ["user/ann/INBOX"]);
        assert_eq!(names(&sees("joe", "shared/%")), ["shared/open"]);
        assert_eq!(names(&sees("joey", "*")).len(), 300 + 1);
        let own = ["user/joe/Blind", "user/joe/INBOX", "user/joe/Secret", "user/joe/Shown"];
        assert_eq!(names(&sees("joe", "user/*")), own);
        assert_eq!(names(&sees("anonymous", "shared/list/*")).len(), 300);
        assert_eq!(names(&sees("anonymous", "user/*")), Vec::<&str>::new());
        assert_eq!(sees("joe", "shared/open")[0]["acl"]["anyone"], "lr", "of the shape of every list");
        // What is in the database is seen as what is in memory.
        store.ctl(&["checkpoint"]).expect(0);
    }
    let show = |name: &str, user: &str| store.ctl(&["mailbox", "show", name, "--as", user]).status;
    assert_eq!(
        (show("user/joe/Shown", "ann"), show("user/joe/Blind", "ann"), show("shared/open", "joey")),
        (0, 68, 68)
    );
    assert_eq!((show("user/joe/nope", "ann"), show("shared/open", "nobody")), (68, 67));
    store.ctl(&["mailbox", "list", "--as", "nobody"]).expect(67);
    store.ctl(&["mailbox", "list", "--as", "a b"]).expect(65);
    let lines = "mailbox list --as ann user/*\nacl my shared/open joey\nacl rights shared/open joe\nmailbox show shared/open --as joey\n";
    let run = store.ctl_with(&["--json", "batch", "-"], Some(lines.as_bytes())).expect(1);
    let said: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((names(&said[0]).len(), &said[1]["rights"], &said[2]["required"]), (2, &json!("r"), &json!("")));
    assert_eq!(said[3]["error"]["code"], "not_found");
    drop(daemon);
}

// row 114: subscriptions of the owner follow a rename, those of others are names; delete leaves them (RFC 9051 6.3.7)
#[test]
fn subscriptions_that_lead_nowhere() {
    let store = TestStore::new();
    let _daemon = store.start();
    let lines = "user add joe\nuser add ann\nmailbox create user/joe/A\nmailbox create user/joe/A/B\nmailbox create shared/x\n\
        acl set user/joe/A ann lr\nacl set shared/x ann lr\nsubscribe joe user/joe/A\nsubscribe joe user/joe/A/B\n\
        subscribe joe user/joe/INBOX\nsubscribe ann user/joe/A\nsubscribe ann shared/x\nsubscribe ann user/joe/INBOX\n";
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    let missing = |user: &str| store.json(&["subscriptions", user, "--missing"]);
    let hidden = json!({"mailbox": "user/joe/INBOX", "state": "hidden"});
    assert_eq!((missing("joe"), missing("ann")), (json!([]), json!([hidden])));
    store.ctl(&["mailbox", "rename", "user/joe/A", "user/joe/Z"]).expect(0);
    assert_eq!(store.json(&["subscriptions", "joe"]), json!(["user/joe/INBOX", "user/joe/Z", "user/joe/Z/B"]));
    let gone = json!({"mailbox": "user/joe/A", "state": "missing"});
    assert_eq!((missing("joe"), missing("ann")), (json!([]), json!([gone, hidden])));
    store.ctl(&["mailbox", "delete", "user/joe/Z", "--yes"]).expect(0);
    assert_eq!(missing("joe"), json!([{"mailbox": "user/joe/Z", "state": "missing"}]));
    store.ctl(&["mailbox", "rename", "user/joe/Z/B", "user/ann/B"]).expect(0);
    assert_eq!(
        store.ctl(&["subscriptions", "joe", "--missing"]).expect(0).out,
        "user/joe/Z\tmissing\nuser/joe/Z/B\tmissing\n"
    );
    assert_eq!(store.json(&["subscriptions", "joe"]).as_array().unwrap().len(), 3);
    store.ctl(&["acl", "delete", "shared/x", "ann"]).expect(0);
    assert_eq!(missing("ann")[0], json!({"mailbox": "shared/x", "state": "hidden"}));
    store.ctl(&["user", "delete", "ann", "--yes"]).expect(0);
    store.ctl(&["user", "add", "ann"]).expect(0);
    assert_eq!(store.json(&["subscriptions", "ann"]), json!([]));
    store.ctl(&["subscriptions", "nobody", "--missing"]).expect(67);
}
