/* What is wrong with how a page looks, as it is laid out right now. Every check gives a list of sentences, empty when all is well. */

const WITHIN = 1.5; /* pixels that rounding may take */

const words = text => text.trim().replace(/\s+/g, " ").slice(0, 60);
/* Words that only screen readers get are laid out and clipped away. */
const spoken = element => element && (getComputedStyle(element).clipPath === "inset(50%)" || spoken(element.parentElement));
const seen = element => element.checkVisibility({ visibilityProperty: true })
    && !element.closest("title, desc, script, style") && !spoken(element);

/* The part of a box that no ancestor with its own edge cuts off; scroll boxes cut off what is scrolled away. */
const uncut = (box, element) => {
    let [left, top, right, bottom] = [box.left, box.top, box.right, box.bottom];
    for (let at = element; at && at !== document.body; at = at.parentElement) {
        const style = getComputedStyle(at);
        if (at instanceof SVGElement && at.tagName !== "svg") continue;
        const edge = at.getBoundingClientRect();
        if (style.overflowX !== "visible") [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
        if (style.overflowY !== "visible") [top, bottom] = [Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
        if (style.position === "fixed") break;
    }
    return { left, top, right, bottom };
};

/* Every line of every text that can be seen. The letters of a line fill less than its box: what is above and below them may touch. */
const lines = () => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !seen(element)) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const rect of range.getClientRects()) {
            const spare = rect.height * 0.14;
            const box = uncut(
                { left: rect.left, right: rect.right, top: rect.top + spare, bottom: rect.bottom - spare }, element,
            );
            if (box.right - box.left > 1 && box.bottom - box.top > 1) found.push({ node, element, text: node.data, ...box });
        }
    }
    return found;
};

/* Texts that lie on one another. */
const overlaps = () => {
    const found = [], all = lines().sort((one, other) => one.top - other.top);
    all.forEach((one, index) => {
        for (let next = index + 1; next < all.length && all[next].top < one.bottom - WITHIN; next += 1) {
            const other = all[next];
            if (other.node === one.node) continue;
            const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
            const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
            if (across > WITHIN && down > WITHIN) found.push(`'${words(one.text)}' and '${words(other.text)}' overlap`);
        }
    });
    return found;
};

/* Texts whose end is out of sight for good: behind the edge of a box that does not scroll, or of the page. */
const cuts = () => {
    const found = [], width = document.documentElement.clientWidth;
    const shown = [...document.querySelectorAll("body *")].filter(seen);
    const whole = new Set(shown.filter(one => getComputedStyle(one).webkitLineClamp === "none").map(one => words(one.textContent)));
    shown.forEach(element => {
        const style = getComputedStyle(element);
        if (!element.textContent.trim() || element instanceof SVGElement || style.display === "inline") return;
        const [across, down] = [style.overflowX, style.overflowY].map(value => value === "hidden" || value === "clip");
        if (style.webkitLineClamp !== "none" && whole.has(words(element.textContent))) return;
        if ((across && element.scrollWidth > element.clientWidth + WITHIN) || (down && element.scrollHeight > element.clientHeight + WITHIN))
            found.push(`'${words(element.textContent)}' is cut`);
    });
    lines().forEach(line => {
        if (line.left < -WITHIN || line.right > width + WITHIN) found.push(`'${words(line.text)}' leaves the page`);
    });
    if (document.documentElement.scrollWidth > window.innerWidth)
        found.push(`the page is ${document.documentElement.scrollWidth} pixels wide, of ${window.innerWidth}`);
    return found;
};

/* Texts that stand out of the box of their own cell or block, where they can run into a neighbour. */
const leaks = () => [...document.querySelectorAll("td, th, dd, dt, li, h1, h2, h3, p, pre, summary, caption")].filter(seen)
    .filter(element => element.clientWidth && element.scrollWidth > element.clientWidth + WITHIN && getComputedStyle(element).overflowX === "visible")
    .map(element => `'${words(element.textContent)}' is wider than its box`);

const letters = element => element.closest("svg") ? getComputedStyle(element).fill : getComputedStyle(element).color;

/* Texts that are hard to read before what is behind them. */
const faint = () => [...document.querySelectorAll("body *")]
    .filter(element => ownText(element) && seen(element) && !element.closest(".anchor") && element.getClientRects().length)
    .map(element => [contrast(letters(element), behind(element) ?? "rgb(255, 255, 255)"), element])
    .filter(([ratio]) => ratio < 4.5)
    .map(([ratio, element]) => `'${words(element.textContent)}' has a contrast of ${ratio.toFixed(2)}`);

/* Ids that are there twice, links within the page that lead nowhere, parts without an address. */
const addresses = () => {
    const ids = [...document.querySelectorAll("[id]")].map(one => one.id), known = new Set(ids);
    const twice = ids.filter((id, index) => ids.indexOf(id) !== index).map(id => `the id '${id}' is there twice`);
    const lost = [...document.querySelectorAll("a[href^='#'], use")].map(one => one.getAttribute("href").slice(1))
        .filter(id => !known.has(decodeURIComponent(id))).map(id => `'#${id}' leads nowhere`);
    const without = [...document.querySelectorAll("main section")].filter(one => !one.id && !one.querySelector(":scope > h2[id]"))
        .map(one => `the part '${words(one.textContent)}' has no address`);
    return [...twice, ...lost, ...without];
};

/* Where the decimal point of a cell stands, in pixels, whether it is written or not; null for what is no number. */
const point = cell => {
    const text = words(cell.textContent).replace(/^(agree|disagree|undecided)\s*/, "");
    if (!/^[-−+]?\d+(\.\d+)?(e[-+−]?\d+)?$/.test(text)) return null;
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    let end = null;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (!seen(node.parentElement)) continue;
        for (let place = 0; place < node.data.length; place += 1) {
            const range = document.createRange();
            range.setStart(node, place);
            range.setEnd(node, place + 1);
            const letter = node.data[place], box = range.getBoundingClientRect();
            if (letter === "." || letter === "e") return box.left;
            if (/\d/.test(letter)) end = box.right;
        }
    }
    return end;
};

/* Columns of numbers whose decimal points do not stand one below the other, or whose digits differ in width. */
const ragged = () => {
    const found = [];
    /* What a caller adds stands there with the digits that the caller gave it. */
    document.querySelectorAll("table:not(.measures table)").forEach(table => {
        const bodies = table.classList.contains("matrix") ? table.tBodies : [table];
        [...bodies].forEach(body => {
            const columns = {};
            body.querySelectorAll("td").forEach(cell => {
                if (!seen(cell)) return;
                const at = point(cell);
                if (at === null) return;
                if (!getComputedStyle(cell).fontVariantNumeric.includes("tabular-nums")) found.push(`'${words(cell.textContent)}' has no tabular digits`);
                (columns[Math.round(cell.getBoundingClientRect().right)] ??= []).push([at, words(cell.textContent)]);
            });
            Object.values(columns).forEach(column => {
                const places = column.map(([at]) => at);
                if (Math.max(...places) - Math.min(...places) > 1) found.push(`the decimals of ${column.map(([, text]) => text).slice(0, 4).join(", ")} are not aligned`);
            });
        });
    });
    return found;
};

/* Texts of right-to-left letters, or with marks that turn the direction, that can turn what stands beside them. */
const TURNING = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff]/;
const turning = () => {
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (!TURNING.test(node.data) || !seen(node.parentElement)) continue;
        let at = node.parentElement;
        while (getComputedStyle(at).display === "inline" && !getComputedStyle(at).unicodeBidi.startsWith("isolate")) at = at.parentElement;
        const alone = at.textContent.trim() === node.data.trim();
        if (getComputedStyle(at).display !== "inline" && !alone) found.push(`'${words(node.data)}' is not isolated`);
    }
    return found;
};

/* Whatever can be followed, opened or scrolled, and can be seen; of buttons that exclude one another the one that is down. */
const controls = () => [...document.querySelectorAll("a[href], summary, [tabindex='0'], button, input, select, textarea")].filter(seen)
    .filter(one => one.type !== "radio" || one.checked);

/* The control that has the focus: its place among all controls, and what is wrong with how it shows that. */
const focused = () => {
    const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
    const wrong = [];
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) wrong.push("has no outline");
    else if (contrast(style.outlineColor, behind(at.parentElement)) < 3) wrong.push("has a faint outline");
    if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) wrong.push("is out of sight");
    return [controls().indexOf(at), wrong.map(text => `'${words(at.textContent || at.ariaLabel)}' ${text}`)];
};

/* How many typefaces the texts have: one, and a second one where columns of letters have to stand one below the other, as in code. */
const typefaces = () => {
    const shown = [...document.querySelectorAll("body *")].filter(one => ownText(one) && seen(one));
    const code = one => one.closest("pre, .pattern") !== null;
    return [shown.filter(one => !code(one)), shown.filter(code)].flatMap((part, index) => {
        const found = new Set(part.map(one => getComputedStyle(one).fontFamily));
        return found.size > 1 ? [`more than one typeface${index ? " of code" : ""}: ${[...found].join("; ")}`] : [];
    });
};

/* How many sizes the letters have: so few that each of them means something. */
const MOST_SIZES = 6;
const sizes = () => {
    const found = new Set([...document.querySelectorAll("body *")].filter(one => ownText(one) && seen(one)).map(one => getComputedStyle(one).fontSize));
    return found.size > MOST_SIZES ? [`${found.size} sizes of letters: ${[...found].join(", ")}`] : [];
};

/* Tables that scroll sideways without a sign of it: by the keyboard, by a name, by a shade at the edge. */
const stuck = () => {
    const found = [], names = new Set();
    [...document.querySelectorAll("body *")].filter(seen).filter(one => ["auto", "scroll"].includes(getComputedStyle(one).overflowX)).forEach(one => {
        const name = one.getAttribute("aria-label") ?? "", style = getComputedStyle(one);
        if (names.has(name)) found.push(`'${name}' is the name of two regions`);
        names.add(name);
        if (one.scrollWidth <= one.clientWidth) return;
        if (one.tabIndex !== 0 || one.getAttribute("role") !== "region" || !name) found.push(`'${words(one.textContent)}' scrolls and has no name or no focus`);
        if (!style.backgroundImage.includes("gradient") || !style.backgroundAttachment.includes("local")) found.push(`'${name}' scrolls and does not show it`);
    });
    return found;
};
