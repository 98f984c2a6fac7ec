//! What to do on each platform, and which of them a visitor uses.

use super::template::{Value, fill};

/// What to do on one platform.
struct Steps {
    /// Its anchor.
    id: &'static str,
    title: &'static str,
    html: &'static str,
}

/// The steps of all platforms, the visitor's own first and open.
pub(super) fn html(user_agent: &str, values: &[(&str, Value)]) -> String {
    let own = platform(user_agent);
    let (first, others): (Vec<&Steps>, Vec<&Steps>) = STEPS.iter().partition(|steps| Some(steps.id) == own);
    let mut out = String::new();
    for (steps, open, yours) in first
        .into_iter()
        .map(|steps| (steps, " open", " <span>· yours, it seems</span>"))
        .chain(others.into_iter().map(|steps| (steps, "", "")))
    {
        let Steps { id, title, html } = steps;
        out += &format!("<details id=\"{id}\"{open}><summary>{title}{yours}</summary><div class=\"how\">\n");
        out += &fill(html, values);
        out += "</div></details>\n";
    }
    out
}

/// Which of [`STEPS`] somebody needs whose client calls itself so.
fn platform(user_agent: &str) -> Option<&'static str> {
    let has = |word: &str| user_agent.contains(word);
    let is = |words: &[&str]| words.iter().any(|word| has(word));
    Some(match () {
        // Also with "Mac OS X" in it.
        () if is(&["iPhone", "iPad", "iPod"]) => "ios",
        // Also with "Linux" in it.
        () if has("Android") => "android",
        () if has("Windows NT") => "windows",
        () if has("Macintosh") => "macos",
        // Where the system's store is not the browsers'.
        () if is(&["Linux", "X11", "CrOS"]) && has("Firefox/") => "firefox",
        () if is(&["Linux", "X11", "CrOS"]) && has("Chrome/") => "chromium",
        () if is(&["Linux", "X11"]) => "linux",
        () if is(&["curl/", "Wget/", "git/"]) => "shell",
        () if has("Java") => "java",
        () if is(&["python", "Python"]) => "python",
        () if is(&["node", "undici"]) => "node",
        () => return None,
    })
}

const STEPS: &[Steps] = &[
    Steps { id: "ios", title: "iPhone and iPad", html: include_str!("steps/ios.html") },
    Steps { id: "android", title: "Android", html: include_str!("steps/android.html") },
    Steps { id: "windows", title: "Windows", html: include_str!("steps/windows.html") },
    Steps { id: "macos", title: "macOS", html: include_str!("steps/macos.html") },
    Steps { id: "linux", title: "Linux", html: include_str!("steps/linux.html") },
    Steps {
        id: "chromium",
        title: "Chromium and Chrome on Linux",
        html: include_str!("steps/chromium.html"),
    },
    Steps { id: "firefox", title: "Firefox", html: include_str!("steps/firefox.html") },
    Steps { id: "shell", title: "curl, wget, git", html: include_str!("steps/shell.html") },
    Steps { id: "java", title: "Java", html: include_str!("steps/java.html") },
    Steps { id: "python", title: "Python", html: include_str!("steps/python.html") },
    Steps { id: "node", title: "Node.js", html: include_str!("steps/node.html") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_told_by_what_they_call_themselves() {
        for (user_agent, id) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
                "ios",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile",
                "android",
            ),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "windows"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15", "macos"),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36", "chromium"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "firefox"),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 Epiphany/48", "linux"),
            ("curl/8.14.1", "shell"),
            ("Java-http-client/21.0.8", "java"),
            ("python-requests/2.32", "python"),
            ("node", "node"),
        ] {
            assert_eq!(platform(user_agent), Some(id), "{user_agent}");
            assert!(STEPS.iter().any(|steps| steps.id == id));
        }
        assert_eq!(platform(""), None);
    }
}
