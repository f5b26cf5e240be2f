// The provider's own pages, used as a person uses them: the login, consent and sign-out forms are really submitted.
//
// It never calls the provider's endpoints behind the browser's back, and never skips a form that is shown.

const LOGIN = 'form input[name=login]';
const CONSENT = 'form input[name=prompt][value=consent]';
const SUBMIT = 'form button[type=submit]';

/** The login form, then the consent form, then away from the provider. */
export async function passLoginAndConsent(tab, { issuer, home }, user) {
  await submitLogin(tab, issuer, user);
  await tab.waitFor(CONSENT);
  await tab.click(SUBMIT);
  await tab.waitForOrigin(home);
}

/** Waits for the login form and sends it. Does not wait for what follows. */
export async function submitLogin(tab, issuer, user) {
  await tab.waitForOrigin(issuer);
  await tab.fill(LOGIN, user);
  await tab.fill('form input[name=password]', 'any password');
  await tab.click(SUBMIT);
}

/** The question whether to sign out at the provider too, answered with yes. */
export async function confirmSignOut(tab, { issuer, home }) {
  await tab.waitForOrigin(issuer);
  await tab.click('button[name=logout][value=yes]');
  await tab.waitForOrigin(home);
}
