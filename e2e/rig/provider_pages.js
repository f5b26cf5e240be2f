// The provider's own pages, used as a person uses them: the login, consent and sign-out forms are really submitted,
// so the way back to the application begins at another site.
//
// It never calls the provider's endpoints behind the browser's back, and never skips a form that is shown.

const LOGIN = 'form input[name=login]';
const CONSENT = 'form input[name=prompt][value=consent]';
const SUBMIT = 'form button[type=submit]';

/** Waits for the login form and sends it. Does not wait for what follows. */
export async function submitLogin(page, issuer, user) {
  await page.waitForURL((url) => url.origin === issuer);
  await page.fill(LOGIN, user);
  await page.fill('form input[name=password]', 'any password');
  await page.click(SUBMIT);
}

/** Waits for the consent form and sends it. Does not wait for what follows. */
export async function submitConsent(page) {
  await page.waitForSelector(CONSENT, { state: 'attached' });
  await page.click(SUBMIT);
}

/** The login form, then the consent form, then away from the provider. */
export async function passLoginAndConsent(page, issuer, user) {
  await submitLogin(page, issuer, user);
  await submitConsent(page);
  await page.waitForURL((url) => url.origin !== issuer);
}

/** The login form of someone who may have consented already in another tab. */
export async function passLogin(page, issuer, user) {
  await submitLogin(page, issuer, user);
  const left = page.waitForURL((url) => url.origin !== issuer);
  if (!(await consentIsAskedBefore(page, left))) return;
  await page.click(SUBMIT);
  await left;
}

/** Nothing, or the consent form, of a provider that still knows the user. Waits for `arrived` in the end. */
export async function passKnownUser(page, arrived) {
  if (await consentIsAskedBefore(page, arrived)) await page.click(SUBMIT);
  await arrived;
}

async function consentIsAskedBefore(page, arrival) {
  const arrived = arrival.then(() => false);
  const asked = page.waitForSelector(CONSENT, { state: 'attached' }).then(() => true);
  for (const outcome of [arrived, asked]) outcome.catch(() => {});
  return Promise.any([arrived, asked]);
}

/** The question whether to sign out at the provider too, answered with yes. */
export async function confirmSignOut(page, issuer) {
  await page.waitForURL((url) => url.origin === issuer);
  await page.click('button[name=logout][value=yes]');
  await page.waitForURL((url) => url.origin !== issuer);
}
