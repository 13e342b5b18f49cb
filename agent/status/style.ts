/**
 * The page's style sheet and its small signs.
 *
 * Owns how it looks, light and dark, wide and narrow. Contrast of text is 4.5 : 1 and more in both. Does not know what
 * is shown.
 */
import type { VolumeHealthState } from '../volumes/operations.ts'
import { Html } from './html.ts'

/** A shape of its own for each state, so that colour is never all that tells. */
export const signs = {
  healthy: '<circle cx="8" cy="8" r="7"/><path d="M4.8 8.3l2.2 2.2 4.3-4.6"/>',
  degraded: '<path d="M8 1.6L15 14H1z"/><path d="M8 6.2v3.6M8 11.9v.1"/>',
  unreachable: '<circle cx="8" cy="8" r="7"/><path d="M4.5 8h7"/>',
  stale: '<path d="M8 1l7 7-7 7-7-7z"/><path d="M6.3 6.4a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.9.7-.9 1.3M8 11.4v.1"/>',
  dead: '<rect x="1.5" y="1.5" width="13" height="13" rx="2.5"/><path d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>'
} as const satisfies Record<VolumeHealthState, string>

export const symbols = new Html(`<svg class="symbols" aria-hidden="true" focusable="false">${
  Object.entries(signs).map(([state, shape]) => `<symbol id="sign-${state}" viewBox="0 0 16 16">${shape}</symbol>`).join('')}</svg>`)

/** For the tab. Drawn by the browser's own colours, so it carries one that is seen on light and dark. */
const iconColours = {
  healthy: '1f9d61', degraded: 'd08700', unreachable: 'd92d20', stale: '8e44ad', dead: 'b1121f'
} as const satisfies Record<VolumeHealthState, string>
export const iconOf = (state: VolumeHealthState): string =>
  'data:image/svg+xml,' + encodeURIComponent(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 18 18"><g fill="#${iconColours[state]}" stroke="#fff" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">${signs[state]}</g></svg>`
  )

const light =
  `color-scheme:light;--ground:#f6f7f9;--panel:#fff;--line:#e1e4e9;--text:#1b2026;--soft:#59626e;--first:#1f5fbf;--second:#b4530a;--link:#1f5fbf;
--healthy:#146c43;--healthy-soft:#e6f4ec;--degraded:#8a5300;--degraded-soft:#fdf2dc;--unreachable:#b42318;--unreachable-soft:#fdeceb;--stale:#7a2f9c;--stale-soft:#f6ebfa;--dead:#8f0f1c;--dead-soft:#fbe3e6;`
const dark =
  `color-scheme:dark;--ground:#13161a;--panel:#1b1f25;--line:#2e343c;--text:#e8eaed;--soft:#a3acb8;--first:#79b0ff;--second:#f0a35c;--link:#8fbcff;
--healthy:#63d39b;--healthy-soft:#14301f;--degraded:#f2bd55;--degraded-soft:#35280b;--unreachable:#ff9a8d;--unreachable-soft:#3d1815;--stale:#dbaaf3;--stale-soft:#32193f;--dead:#ff8a97;--dead-soft:#47121a;`

const states = Object.keys(signs).map((state) => `.${state}{--mark:var(--${state});--mark-soft:var(--${state}-soft)}`)
  .join('')

export const style = `:root{${light}}@media(prefers-color-scheme:dark){:root{${dark}}}${states}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.wide{max-width:1320px;margin:0 auto;padding:0 24px}
header{background:var(--panel);border-bottom:1px solid var(--line)}
header .wide{display:flex;flex-wrap:wrap;gap:4px 20px;align-items:center;min-height:56px;padding-top:8px;padding-bottom:8px}
.name{font-weight:650;letter-spacing:.01em;display:flex;align-items:center;gap:10px}
.name svg{width:26px;height:18px;stroke:var(--first);fill:none;stroke-width:1.8;stroke-linecap:round}
.node{color:var(--soft)}
.told{margin-left:auto;display:flex;gap:12px;align-items:center;color:var(--soft);font-size:13px}
button{font:inherit;color:var(--text);background:transparent;border:1px solid var(--line);border-radius:6px;padding:3px 12px;cursor:pointer}
button:hover{border-color:var(--soft)}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}
a{color:var(--link)}
main.wide{padding-top:28px;padding-bottom:28px}
h1{font-size:26px;line-height:1.25;font-weight:620;letter-spacing:-.01em;margin:0;display:flex;gap:14px;align-items:center}
h1 .sign{width:30px;height:30px}
h2{font-size:17px;font-weight:620;margin:36px 0 12px}
.facts{display:flex;flex-wrap:wrap;gap:4px 32px;margin:14px 0 26px}
.facts div{display:flex;gap:8px}
dt{color:var(--soft)}dd{margin:0}
.symbols{position:absolute;width:0;height:0}
.sign{width:16px;height:16px;flex:none;fill:var(--mark-soft);stroke:var(--mark);stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round}
.panel{background:var(--panel);border:1px solid var(--line);border-radius:10px}
table{width:100%;border-collapse:collapse}
caption{text-align:left}
th,td{text-align:left;vertical-align:top;padding:14px 16px;border-top:1px solid var(--line);font-weight:400}
thead th{border-top:0;padding-top:10px;padding-bottom:10px;font-size:13px;color:var(--soft);font-weight:500}
.c-health{width:150px}.c-chart{width:15.5%}.c-space{width:11%}.c-when{width:120px}.c-where{width:24%}.c-do{width:28%}
.state{display:inline-flex;gap:8px;align-items:center;color:var(--mark);font-weight:600;white-space:nowrap}
.soft{color:var(--soft);font-size:13px}
.source{font-weight:620}
.volumes{list-style:none;margin:2px 0 0;padding:0}
.lasts{display:block}
.reason{margin:8px 0 0;padding:8px 12px;border-left:3px solid var(--mark);background:var(--mark-soft);border-radius:0 6px 6px 0}
details{margin-top:6px}summary{cursor:pointer;color:var(--soft);font-size:13px;width:max-content}
details dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 14px;margin:8px 0 0;font-size:13px}
.chart{display:block;width:100%;height:44px;overflow:visible}
.ribbon{display:block;width:100%;height:8px;margin-top:8px}
.span{fill:var(--mark)}
.chart path{vector-effect:non-scaling-stroke;fill:none;stroke-linejoin:round;stroke-linecap:round}
.ground{stroke:var(--line);stroke-width:1}
.line{stroke-width:1.7}.first{stroke:var(--first)}.second{stroke:var(--second);stroke-dasharray:4 3}
.chart .area{fill:var(--first);opacity:.1;stroke:none}
.figures{margin-top:6px;font-size:13px;display:flex;flex-wrap:wrap;gap:0 12px}
.key{display:inline-block;width:14px;height:0;border-top:2px solid var(--first);vertical-align:middle;margin-right:6px}
.key.second{border-top:2px dashed var(--second)}
.bar{display:block;width:100%;height:6px;margin:8px 0 6px}.bar .all{fill:var(--line)}.bar .used{fill:var(--first)}
.level{font-weight:600}.error{color:var(--unreachable)}.warn{color:var(--degraded)}
.remedy{font-weight:550}
.empty{padding:18px 20px;margin:0;color:var(--soft)}
.notes{padding:4px 0;margin:0;list-style:none}.notes li{padding:10px 20px}
footer.wide{color:var(--soft);font-size:13px;padding-bottom:32px;display:flex;flex-wrap:wrap;gap:4px 18px}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.lost .told{color:var(--unreachable);font-weight:600}.lost main{opacity:.55}
@media(max-width:900px){
.wide{padding:0 16px}h1{font-size:21px}
.told{margin-left:0;width:100%;justify-content:space-between}
table,tbody,tr,th,td,.c-health,.c-chart,.c-space,.c-when,.c-where,.c-do{display:block;width:auto}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr{border-top:1px solid var(--line);padding:14px 16px}tbody:first-of-type tr:first-child{border-top:0}
th,td{border:0;padding:0 0 10px}td:last-child{padding-bottom:0}
td[data-name]::before{content:attr(data-name);display:block;color:var(--soft);font-size:13px}
.shares tr{display:grid;grid-template-columns:1fr 1fr;gap:0 20px}.shares th,.shares .c-health{grid-column:1/-1}
.shares .c-health{order:-1}.ribbon{max-width:240px}.none{grid-column:1/-1}
}
@media print{button,.told{display:none}.panel{border-color:#999}}
@media(prefers-reduced-motion:no-preference){main{transition:opacity .2s}}
`
