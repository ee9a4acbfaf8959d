/** What each step of a guest caused, as a table: one column a boundary, read from left to right, then down. */
import Table from 'cli-table3';
import type { Ledger, LedgerEvent } from '@remora/core';
import { GUEST_STEP } from '../cli/run-steps.js';
import { BOUNDARIES, crossingOf } from './crossings.js';

const DEFAULT_WIDTH = 160;
const MIN_WIDTH = 100;
/** Shares of the width: guest, then one for each boundary. */
const SHARES = [0.16, 0.22, 0.26, 0.18, 0.18];

/** One line of the table: a cell for each boundary. */
export type Row = string[];

/** Crossings in order; a new row begins wherever the way leads back towards the guest. */
export function rowsOf(events: readonly LedgerEvent[], machine: string): Row[] {
  const rows: Row[] = [];
  let at: number = BOUNDARIES.length;
  for (const event of events) {
    const crossing = crossingOf(event, machine);
    if (crossing === undefined) continue;
    if (crossing.boundary < at) rows.push(BOUNDARIES.map(() => ''));
    const row = rows.at(-1)!;
    row[crossing.boundary] = [row[crossing.boundary], crossing.text].filter(part => part !== '').join('\n');
    at = crossing.boundary;
  }
  return rows;
}

/** The table of all steps in the ledger. `width` is the terminal's, in columns. */
export function propagationTable(ledger: Ledger, machine: string, width = DEFAULT_WIDTH): string {
  const usable = Math.max(width, MIN_WIDTH) - SHARES.length - 1;
  const table = new Table({
    head: ['guest', ...BOUNDARIES],
    colWidths: SHARES.map(share => Math.floor(usable * share)),
    wordWrap: true,
    style: { head: [], border: [], compact: false },
  });
  for (const step of ledger.events.filter(event => event.kind === GUEST_STEP)) {
    const rows = rowsOf(ledger.causedBy(step.id), machine);
    const title = String(step.data['title']);
    if (rows.length === 0) table.push([title, ...BOUNDARIES.map(() => '')]);
    for (const [index, row] of rows.entries()) table.push([index === 0 ? title : '', ...row]);
  }
  return `${table.toString()}\n`;
}
