/**
 * As much of Angular, RxJS and Svelte as the recipes touch, so that they are checked against the client without those
 * packages. What it says of them is short of the truth, never beyond it.
 */

declare module "@angular/core" {
  type Signal<T> = () => T;
  interface WritableSignal<T> extends Signal<T> {
    set(value: T): void;
    asReadonly(): Signal<T>;
  }
  export function signal<T>(value: T): WritableSignal<T>;
  export function computed<T>(read: () => T): Signal<T>;
  type Token<T> = abstract new (...parameters: never[]) => T;
  export function inject<T>(token: Token<T>): T;
  export abstract class DestroyRef {
    abstract onDestroy(callback: () => void): () => void;
  }
  export function Injectable(options: { providedIn: "root" }): (type: Token<unknown>) => void;
  export function Component(options: { selector: string; template: string }): (type: Token<unknown>) => void;
  interface Provider {
    readonly ɵprovider: true;
  }
  export interface ApplicationConfig {
    providers: Provider[];
  }
  export function provideAppInitializer(start: () => Promise<unknown> | undefined): Provider;
}

declare module "@angular/common" {
  export abstract class Location {
    prepareExternalUrl(url: string): string;
  }
}

declare module "@angular/common/http" {
  import type { Provider } from "@angular/core";
  import type { Observable } from "rxjs";

  interface HttpRequest {
    readonly url: string;
    clone(update: { withCredentials?: boolean; setHeaders?: Record<string, string> }): HttpRequest;
  }
  export class HttpErrorResponse extends Error {
    readonly headers: { get(name: string): string | null };
    readonly status: number;
  }
  export type HttpInterceptorFn = (
    request: HttpRequest,
    next: (request: HttpRequest) => Observable<unknown>,
  ) => Observable<unknown>;
  export function withInterceptors(interceptors: HttpInterceptorFn[]): unknown;
  export function provideHttpClient(...features: unknown[]): Provider;
  export function httpResource<T>(url: () => string, options: { defaultValue: T }): { value(): T };
}

declare module "@angular/router" {
  import type { Provider } from "@angular/core";

  interface UrlTree {
    readonly queryParams: Record<string, unknown>;
  }
  export abstract class Router {
    parseUrl(url: string): UrlTree;
  }
  export type CanActivateFn = (route: unknown, state: { url: string }) => Promise<boolean | UrlTree>;
  export type Routes = { path: string; canActivate: CanActivateFn[]; loadComponent(): Promise<unknown> }[];
  export function provideRouter(routes: Routes): Provider;
}

declare module "rxjs" {
  type Operator<T, R> = (source: Observable<T>) => Observable<R>;
  export interface Observable<T> {
    pipe<R>(operator: Operator<T, R>): Observable<R>;
  }
  export function from<T>(promise: Promise<T>): Observable<T>;
  export function switchMap<T, R>(next: (value: T) => Observable<R>): Operator<T, R>;
  export function catchError<T, R>(handle: (error: unknown) => Observable<R>): Operator<T, T | R>;
  export function throwError(error: () => unknown): Observable<never>;
}

declare module "svelte" {
  export type Snippet = () => { readonly ɵsnippet: true };
}

declare function $props<T>(): T;
declare function $effect(effect: () => void): void;
