//! Colours for light pages and dark ones.

/// The purpose of each colour, and its values on a light and on a dark page.
const COLOURS: [(&str, &str, &str); 11] = [
    ("page", "#ffffff", "#0d1117"),
    ("card", "#f6f8fa", "#151b23"),
    ("edge", "#d1d9e0", "#3d444d"),
    ("ink", "#1f2328", "#e6edf3"),
    ("soft", "#59636e", "#9198a1"),
    ("old", "#0969da", "#4493f8"),
    ("own", "#1a7f37", "#3fb950"),
    ("bad", "#cf222e", "#f85149"),
    ("astray", "#bc4c00", "#f0883e"),
    ("fence", "#9a6700", "#d29922"),
    ("root", "#8250df", "#ab7df8"),
];

/// The style properties of each class; `$` stands for a colour.
const RULES: &str = "\
.page{fill:$page}.card{fill:$card;stroke:$edge}.box{fill:$page;stroke:$edge}.chip{fill:$page;stroke:$old}
.oldchip{fill:$old;fill-opacity:.14;stroke:$old}.ownchip{fill:$own;fill-opacity:.16;stroke:$own}
.badchip{fill:$bad;fill-opacity:.14;stroke:$bad}.unit{fill:$root;fill-opacity:.14;stroke:$root}
.oldram{fill:$card;stroke:$edge}.ownram{fill:$own;fill-opacity:.10;stroke:$own}
.fencedram{fill:$own;fill-opacity:.10;stroke:$fence;stroke-width:3;stroke-dasharray:7 4}
.table{fill:$page;stroke:$root}.stale{fill:$page;stroke:$edge}.roottable{fill:$root;stroke:$root}
.title{fill:$ink;font-size:24px;font-weight:600}.story{fill:$soft;font-size:14px}
.head{fill:$ink;font-size:16px;font-weight:600}.sub{fill:$soft;font-size:13px}
.name{fill:$ink;font-size:13px;font-weight:600}.note{fill:$soft;font-size:11px}
.code{fill:$ink;font-size:11px;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.good{fill:$own;font-size:11px;font-weight:600}.worse{fill:$bad;font-size:11px;font-weight:600}
.rootword{fill:$root;font-size:11px;font-weight:600}.fenceword{fill:$fence;font-size:11px;font-weight:600}
.oldline{stroke:$old;fill:none;stroke-width:1.5}.ownline{stroke:$own;fill:none;stroke-width:2}
.badline{stroke:$bad;fill:none;stroke-width:1.5}.rootline{stroke:$root;fill:none;stroke-width:2.5}
.staleline{stroke:$edge;fill:none;stroke-width:1.5;stroke-dasharray:3 3}.rule{stroke:$edge}
.stop{stroke:$bad;stroke-width:2.5}.olddot,.oldbar{fill:$old}.owndot,.ownbar{fill:$own}.baddot,.badbar{fill:$bad}
.astraybar{fill:$astray}.fencebar{fill:$fence}
.oldtick{stroke:$old;stroke-width:2}.owntick{stroke:$own;stroke-width:2}.badtick{stroke:$bad;stroke-width:2}
.astraytick{stroke:$astray;stroke-width:2}.fencetick{stroke:$fence;stroke-width:2}
";

/// Makes the style sheet. It spells colours out, since not every image viewer supports variables.
pub(super) fn style() -> String {
    let font = "text{font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}";
    let light = coloured(|(_, light, _)| light);
    let dark = coloured(|(_, _, dark)| dark);
    format!("\n{font}\n{light}@media(prefers-color-scheme:dark){{\n{dark}}}\n")
}

fn coloured(pick: impl Fn((&'static str, &'static str, &'static str)) -> &'static str) -> String {
    let replace =
        |rules: String, colour: (&'static str, _, _)| rules.replace(&format!("${}", colour.0), pick(colour));
    COLOURS.into_iter().fold(RULES.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_a_value() {
        assert!(!style().contains('$'));
    }
}
