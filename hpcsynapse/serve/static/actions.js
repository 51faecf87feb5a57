// What can be done to a run; there is nothing to be done without --allow-actions.

export function actions() { return null; }
