// The routes of runs.
import { get } from '../kept.js';
import { authorization, send } from '../http.js';

async function json(path, signal) {
  const response = await send(path, { headers: authorization(get('key')), signal, cache: 'no-store' });
  return response.json();
}

/** {chat, runs}: the runs, those written last first. */
export const list = () => json('runs');

/** The series of a run: since a cursor, or of a range of steps. */
export const metrics = (id, { after = null, from = null, to = null, points = null } = {}, signal = undefined) => json(`runs/${id}/metrics${query({ after, from, to, points })}`, signal);

/** Loads of all experts at a step, or of one layer over time. */
export const experts = (id, { step = null, layer = null, points = null } = {}, signal = undefined) => json(`runs/${id}/experts${query({ step, layer, points })}`, signal);

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== '');
  return given.length > 0 ? `?${new URLSearchParams(given)}` : '';
}
