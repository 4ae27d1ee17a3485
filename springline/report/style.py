"""How the page looks: one style sheet for light and dark, wide and narrow windows, and paper.

Colours are those of Okabe and Ito, which people with any colour vision tell apart, and none stands alone: shapes,
hatching and words say the same.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --quiet: #5b6570; --line: #dfe3e8; --grid: #eceff2;
  --good: #2f7fb8; --good-soft: #b9d7ec; --bad: #c8500a; --bad-soft: #fdf6f1; --warn: #9a6700; --warn-mark: #e0a020;
  --warn-soft: #fff5d6; --run: #56a9d8; --off: #8a94a0; --off-soft: #d5dae0; --violet: #a8588a; --teal: #1d8a70;
  --shadow: 0 1px 2px rgb(20 30 40 / .06);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1a2027; --ink: #e6eaef; --quiet: #9aa6b2; --line: #2e3741; --grid: #262e37;
    --good: #4ba3dc; --good-soft: #27506d; --bad: #f08a4b; --bad-soft: #261d18; --warn: #eab94a; --warn-mark: #e0a020;
    --warn-soft: #362c12; --run: #8fd0f5; --off: #7c8793; --off-soft: #3a444f; --violet: #d391bd; --teal: #45b898;
    --shadow: none;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 4.5rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0; }
h3 { font-size: .95rem; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; }
a { color: var(--good); text-underline-offset: 2px; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--good); outline-offset: 2px; border-radius: 3px; }
code { font: 12.5px/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.small { font-size: 13px; }
.name { unicode-bidi: isolate; overflow-wrap: anywhere; }
nav { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: 4px 18px; list-style: none; margin: 0 auto; padding: 10px 20px; max-width: 1240px;
  overflow-x: auto; white-space: nowrap; }
nav a { text-decoration: none; color: var(--ink); }
nav a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin: 18px 0; box-shadow: var(--shadow); }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 24px; align-items: baseline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 12px; margin: 18px 0 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; color: inherit;
  text-decoration: none; display: block; box-shadow: var(--shadow); }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--bad); }
.tile.warn b { color: var(--warn); }
.wrong { list-style: none; margin: 12px 0 0; padding: 0; display: grid; gap: 8px; }
.wrong li { display: grid; grid-template-columns: 22px 1fr auto; gap: 2px 10px; padding: 8px 12px; border-radius: 6px;
  border: 1px solid var(--line); border-left: 5px solid; }
.wrong .bad { background: var(--bad-soft); border-left-color: var(--bad); }
.wrong .warn { border-left-color: var(--warn-mark); }
.wrong svg { width: 16px; height: 16px; margin-top: 3px; }
.wrong a { font-weight: 600; color: inherit; overflow-wrap: anywhere; }
.wrong .said { grid-column: 2 / 4; overflow-wrap: anywhere; }
.wrong .since { text-align: right; white-space: nowrap; }
.fine { background: var(--card); border-left: 4px solid var(--teal); padding: 10px 14px; margin: 12px 0 0; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 10px 0; padding: 0; list-style: none; font-size: 13px;
  color: var(--quiet); }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { width: 16px; height: 14px; flex: none; }
.lane { display: grid; grid-template-columns: minmax(150px, 250px) minmax(0, 1fr); gap: 0 14px; align-items: center; }
.lane > .label { min-width: 0; line-height: 1.3; padding: 3px 0; }
.lane > .label > * { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.label .sub { font-size: 12.5px; color: var(--quiet); font-variant-numeric: tabular-nums; }
.track svg { display: block; width: 100%; overflow: visible; }
.rows > .lane, .rows > details { border-top: 1px solid var(--grid); }
.rows > :target, .rows > .lane:target, details:has(:target) > summary { background: var(--warn-soft); }
.axis { position: relative; height: 20px; font-size: 12px; color: var(--quiet); font-variant-numeric: tabular-nums; }
.axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.axis .begin { transform: none; }
.axis .end { transform: translateX(-100%); }
details > summary { cursor: pointer; }
details.run > summary { list-style: none; }
details.run > summary::-webkit-details-marker { display: none; }
details.run > summary .sub::before { content: "▸ "; }
details.run[open] > summary .sub::before { content: "▾ "; }
.inside { padding: 4px 0 12px 14px; border-left: 3px solid var(--line); margin: 2px 0 6px; }
.inside .lane { grid-template-columns: minmax(136px, 233px) minmax(0, 1fr); }
.errors { margin: 6px 0 0; padding: 0; list-style: none; font-size: 13px; }
.errors li { overflow-wrap: anywhere; }
.data { margin-top: 14px; font-size: 13px; }
.data > summary { color: var(--quiet); }
.scroll { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: 4px; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--grid); vertical-align: top;
  white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
.peak { font-size: 12px; color: var(--quiet); display: flex; justify-content: space-between; }
.burn { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 20px; }
.burn > div { min-width: 0; }
.burn > :target { outline: 3px solid var(--warn-mark); outline-offset: 6px; border-radius: 4px; }
.burn svg { width: 100%; display: block; }
footer { color: var(--quiet); font-size: 13px; padding-bottom: 32px; }
.g { stroke: var(--grid); } .base { stroke: var(--line); }
.f-good { fill: var(--good); } .f-soft { fill: var(--good-soft); } .f-bad { fill: var(--bad); }
.f-run { fill: var(--run); } .f-off { fill: var(--off); } .f-offsoft { fill: var(--off-soft); }
.f-warn { fill: var(--warn-mark); }
.f-violet { fill: var(--violet); } .f-teal { fill: var(--teal); } .f-card { fill: var(--card); }
.s-good { stroke: var(--good); } .s-bad { stroke: var(--bad); } .s-warn { stroke: var(--warn-mark); }
.s-off { stroke: var(--off); } .s-violet { stroke: var(--violet); } .s-run { stroke: var(--run); }
.none { fill: none; }
.dash { stroke-dasharray: 3 3; }
@media (max-width: 720px) {
  main, header, footer { padding: 0 12px; }
  header { padding-top: 18px; }
  section { padding: 14px 12px; }
  .lane, .inside .lane { grid-template-columns: minmax(0, 1fr); }
  .lane > .label { padding: 6px 0 0; }
  .lane.axislane > .label { display: none; }
  .axis .odd { display: none; }
  .wrong li { grid-template-columns: 22px 1fr; }
  .wrong .since { grid-column: 2; text-align: left; white-space: normal; }
  .wrong .said { grid-column: 2; }
}
@media print {
  nav { display: none; }
  section { break-inside: avoid-page; }
}
"""
