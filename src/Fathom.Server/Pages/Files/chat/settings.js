// The settings of a conversation. An empty field leaves the choice to the server, so that its defaults stay its own.
import { at, h, icon } from '../dom.js';
import { initTheme } from '../theme-choice.js';
import * as store from './store.js';

const numbers = { temperature: 'set-temperature', top_p: 'set-top-p', max_tokens: 'set-max-tokens', seed: 'set-seed' };

/** Makes the dialog. read() gives the settings to show, changed(settings) takes new ones, keyChanged() tells of a new key. */
export function initSettings(read, changed, keyChanged) {
  const dialog = at('settings');
  at('settings-open').append(icon('sliders'));
  at('settings-close').append(icon('close'));
  at('settings-open').addEventListener('click', () => {
    fill(read());
    dialog.showModal();
  });
  // A click beside the dialog closes it; fields are taken over as they change, so there is nothing to lose.
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  at('settings-form').addEventListener('change', (event) => {
    if (event.target.id === 'set-key') {
      store.set('key', event.target.value.trim() || null);
      keyChanged();
      return;
    }
    if (event.target.reportValidity()) changed(collect());
  });
  initTheme();
}

/** Shows the names of the models. */
export function showModels(names) {
  at('set-model').replaceChildren(...names.map((name) => h('option', { value: name }, name)));
}

/** The fields of a request, from settings. */
export function toRequest(settings) {
  const request = {};
  if (settings.model) request.model = settings.model;
  for (const name of Object.keys(numbers)) if (settings[name] !== undefined) request[name] = settings[name];
  if (settings.thinking) request.thinking = { type: settings.thinking };
  return request;
}

function fill(settings) {
  if (settings.model) at('set-model').value = settings.model;
  at('set-system').value = settings.system ?? '';
  for (const [name, id] of Object.entries(numbers)) at(id).value = settings[name] ?? '';
  at('set-thinking').value = settings.thinking ?? '';
  at('set-key').value = store.get('key') ?? '';
}

function collect() {
  const settings = { model: at('set-model').value || undefined, system: at('set-system').value.trim() || undefined, thinking: at('set-thinking').value || undefined };
  for (const [name, id] of Object.entries(numbers)) {
    const field = at(id);
    if (field.value !== '' && field.validity.valid) settings[name] = field.valueAsNumber;
  }
  return settings;
}
