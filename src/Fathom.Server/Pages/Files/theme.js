// Runs before the page is drawn, so that a chosen theme does not flash through the other one. A classic script: modules come later.
(() => {
  const chosen = localStorage.getItem('fathom.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
